"""RagService over gRPC: decode, delegate, encode."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace

from astromesh.rag.v1 import rag_service_pb2 as pb
from astromesh.rag.v1 import rag_service_pb2_grpc

from servers.domain.rag import Document
from servers.domain.services import Rag
from servers.kernel.calls import Context, caller_from
from servers.kernel.chat_wire import refused
from servers.rag import convert

MOST_BYTES = 64 << 20  # of a document in parts


class RagServicer(rag_service_pb2_grpc.RagServiceServicer):
    def __init__(self, rag: Rag) -> None:
        self._rag = rag

    async def IngestDocument(
        self, request: pb.IngestDocumentRequest, context: Context
    ) -> pb.IngestDocumentResponse:
        document = convert.document_from(request.document)
        stored, outcome = await self._rag.ingest(caller_from(context), request.pipeline, document)
        return pb.IngestDocumentResponse(
            document=convert.stored_to(stored), outcome=convert.outcome_to(outcome)
        )

    async def IngestDocuments(
        self, request_iterator: AsyncIterator[pb.IngestDocumentsRequest], context: Context
    ) -> AsyncGenerator[pb.IngestDocumentsResponse, None]:
        first = await anext(request_iterator, None)
        if first is None or not first.pipeline:
            raise refused("pipeline", "the first message names the pipeline")
        documents = _documents(first, request_iterator)
        told = self._rag.ingest_all(caller_from(context), first.pipeline, documents)
        async with aclosing(documents), aclosing(told):
            async for each in told:
                yield convert.ingested_to(each)

    async def Query(self, request: pb.QueryRequest, context: Context) -> pb.QueryResponse:
        found = await self._rag.query(caller_from(context), convert.query_from(request))
        return pb.QueryResponse(passages=map(convert.passage_to, found))

    async def DeleteDocument(
        self, request: pb.DeleteDocumentRequest, context: Context
    ) -> pb.DeleteDocumentResponse:
        caller = caller_from(context)
        deleted = await self._rag.delete(caller, request.pipeline, request.document)
        return pb.DeleteDocumentResponse(deleted_chunks=deleted)

    async def ListDocuments(
        self, request: pb.ListDocumentsRequest, context: Context
    ) -> pb.ListDocumentsResponse:
        page = await self._rag.documents(
            caller_from(context), request.pipeline, request.page_size, request.page_token
        )
        return convert.page_to(page)

    async def ListPipelines(
        self, request: pb.ListPipelinesRequest, context: Context
    ) -> pb.ListPipelinesResponse:
        found = await self._rag.pipelines(caller_from(context))
        return pb.ListPipelinesResponse(pipelines=map(convert.pipeline_to, found))

    async def GetPipeline(self, request: pb.GetPipelineRequest, context: Context) -> pb.Pipeline:
        found = await self._rag.pipeline(caller_from(context), request.pipeline)
        return convert.pipeline_to(found)

    async def ChunkText(
        self, request: pb.ChunkTextRequest, context: Context
    ) -> pb.ChunkTextResponse:
        found = await self._rag.chunk(caller_from(context), request.pipeline, request.text)
        return pb.ChunkTextResponse(chunks=map(convert.chunk_to, found))


async def _documents(
    first: pb.IngestDocumentsRequest, rest: AsyncIterator[pb.IngestDocumentsRequest]
) -> AsyncGenerator[Document, None]:
    """The documents of a stream, each once its last part has come."""
    whole: Document | None = None
    parts: list[bytes] = []
    async for message in _all(first, rest):
        if message.HasField("document"):
            if whole:
                yield replace(whole, content=b"".join(parts))
            whole = convert.document_from(message.document)
            parts = [whole.content]
        if message.more_content:
            if whole is None:
                raise refused("more_content", "no document came before this part")
            if sum(map(len, parts)) <= MOST_BYTES:  # what is more than that is refused later
                parts.append(message.more_content)
    if whole:
        yield replace(whole, content=b"".join(parts))


async def _all(
    first: pb.IngestDocumentsRequest, rest: AsyncIterator[pb.IngestDocumentsRequest]
) -> AsyncIterator[pb.IngestDocumentsRequest]:
    yield first
    async for message in rest:
        yield message
