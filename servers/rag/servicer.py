"""RagService over gRPC: decode, delegate, encode."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import TypeAlias

from astromesh.rag.v1 import ingestion_pb2, rag_service_pb2_grpc
from astromesh.rag.v1 import rag_service_pb2 as pb
from google.longrunning import operations_pb2 as lro
from google.longrunning import operations_pb2_grpc
from google.protobuf import empty_pb2

from servers.domain.rag import Document
from servers.domain.services import Ingestions, Rag
from servers.kernel.calls import Context, caller_from, deadline_from
from servers.kernel.chat_wire import refused
from servers.rag import convert
from servers.rag.convert_operations import operation_to, operations_to, where_from

_USUAL_WAIT = 60.0  # seconds, where the caller has no deadline either
MOST_BYTES = 64 << 20  # of a document in parts


class RagServicer(rag_service_pb2_grpc.RagServiceServicer):
    def __init__(self, rag: Rag, ingestions: Ingestions) -> None:
        self._rag, self._ingestions = rag, ingestions

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

    async def CreateIngestion(
        self, request: ingestion_pb2.CreateIngestionRequest, context: Context
    ) -> lro.Operation:
        started = await self._ingestions.start(
            caller_from(context), request.pipeline, _given(request), request.request_id
        )
        return operation_to(started)

    async def UploadIngestion(
        self,
        request_iterator: AsyncIterator[ingestion_pb2.UploadIngestionRequest],
        context: Context,
    ) -> lro.Operation:
        first = await anext(request_iterator, None)
        if first is None or not first.pipeline:
            raise refused("pipeline", "the first message names the pipeline")
        async with aclosing(_documents(first, request_iterator)) as documents:
            started = await self._ingestions.start(
                caller_from(context), first.pipeline, documents, first.request_id
            )
        return operation_to(started)

    async def WatchIngestion(
        self, request: ingestion_pb2.WatchIngestionRequest, context: Context
    ) -> AsyncGenerator[lro.Operation, None]:
        async with aclosing(self._ingestions.watch(caller_from(context), request.name)) as told:
            async for each in told:
                yield operation_to(each)

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


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]  # no stubs
    """google.longrunning.Operations for all that takes long here: ingestions."""

    def __init__(self, ingestions: Ingestions) -> None:
        self._ingestions = ingestions

    async def ListOperations(
        self, request: lro.ListOperationsRequest, context: Context
    ) -> lro.ListOperationsResponse:
        if request.name not in ("", "operations"):
            raise refused("name", 'expected "operations"')
        page = await self._ingestions.list(
            caller_from(context), where_from(request.filter), request.page_size, request.page_token
        )
        return operations_to(page)

    async def GetOperation(
        self, request: lro.GetOperationRequest, context: Context
    ) -> lro.Operation:
        return operation_to(await self._ingestions.get(caller_from(context), request.name))

    async def DeleteOperation(
        self, request: lro.DeleteOperationRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._ingestions.delete(caller_from(context), request.name)
        return empty_pb2.Empty()

    async def CancelOperation(
        self, request: lro.CancelOperationRequest, context: Context
    ) -> empty_pb2.Empty:
        await self._ingestions.cancel(caller_from(context), request.name)
        return empty_pb2.Empty()

    async def WaitOperation(
        self, request: lro.WaitOperationRequest, context: Context
    ) -> lro.Operation:
        caller, seconds = caller_from(context), _patience(request, context)
        return operation_to(await self._ingestions.wait(caller, request.name, seconds))


def _patience(request: lro.WaitOperationRequest, context: Context) -> float:
    """The answer comes before the caller gives up."""
    wanted = request.timeout.ToTimedelta().total_seconds()
    deadline = deadline_from(context)
    least = _USUAL_WAIT if deadline is None else max(0.0, deadline - min(1.0, deadline / 10))
    return min(wanted, least) if request.HasField("timeout") else least


async def _given(request: ingestion_pb2.CreateIngestionRequest) -> AsyncGenerator[Document, None]:
    for document in request.documents:
        yield convert.document_from(document)


_Part: TypeAlias = pb.IngestDocumentsRequest | ingestion_pb2.UploadIngestionRequest


async def _documents(first: _Part, rest: AsyncIterator[_Part]) -> AsyncGenerator[Document, None]:
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


async def _all(first: _Part, rest: AsyncIterator[_Part]) -> AsyncIterator[_Part]:
    yield first
    async for message in rest:
        yield message
