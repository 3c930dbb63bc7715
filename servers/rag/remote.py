"""`Rag` answered by another process: same calls, same values, same errors."""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace

import grpc
from astromesh.rag.v1 import rag_service_pb2 as pb
from astromesh.rag.v1 import rag_service_pb2_grpc

from servers.domain.caller import Caller
from servers.domain.rag import (
    Chunk,
    Document,
    DocumentPage,
    Ingested,
    IngestOutcome,
    Passage,
    PassageQuery,
    PipelineInfo,
    StoredDocument,
)
from servers.kernel.calls import metadata_of
from servers.kernel.status import domain_errors
from servers.rag import convert

_PART = 2 << 20  # bytes of a document in one message


class RemoteRag:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = rag_service_pb2_grpc.RagServiceStub(channel)

    async def ingest(
        self, caller: Caller, pipeline: str, document: Document
    ) -> tuple[StoredDocument, IngestOutcome]:
        request = pb.IngestDocumentRequest(
            pipeline=pipeline, document=convert.document_to(document)
        )
        with domain_errors("rag"):
            answer = await self._stub.IngestDocument(request, metadata=metadata_of(caller))
        return convert.stored_from(answer.document), convert.outcome_from(answer.outcome)

    async def ingest_all(
        self, caller: Caller, pipeline: str, documents: AsyncIterator[Document]
    ) -> AsyncGenerator[Ingested, None]:
        call = self._stub.IngestDocuments(
            messages_of(pipeline, documents), metadata=metadata_of(caller)
        )
        try:
            with domain_errors("rag"):
                async for answer in call:
                    yield convert.ingested_from(answer)
        finally:
            call.cancel()

    async def query(self, caller: Caller, query: PassageQuery) -> Sequence[Passage]:
        request = convert.query_to(query)
        with domain_errors("rag"):
            answer = await self._stub.Query(request, metadata=metadata_of(caller))
        return [convert.passage_from(each) for each in answer.passages]

    async def delete(self, caller: Caller, pipeline: str, document: str) -> int:
        request = pb.DeleteDocumentRequest(pipeline=pipeline, document=document)
        with domain_errors("rag"):
            answer = await self._stub.DeleteDocument(request, metadata=metadata_of(caller))
        return int(answer.deleted_chunks)

    async def documents(
        self, caller: Caller, pipeline: str, page_size: int = 0, page_token: str = ""
    ) -> DocumentPage:
        request = pb.ListDocumentsRequest(
            pipeline=pipeline, page_size=page_size, page_token=page_token
        )
        with domain_errors("rag"):
            answer = await self._stub.ListDocuments(request, metadata=metadata_of(caller))
        return convert.page_from(answer)

    async def pipelines(self, caller: Caller) -> Sequence[PipelineInfo]:
        with domain_errors("rag"):
            answer = await self._stub.ListPipelines(
                pb.ListPipelinesRequest(), metadata=metadata_of(caller)
            )
        return [convert.pipeline_from(each) for each in answer.pipelines]

    async def pipeline(self, caller: Caller, name: str) -> PipelineInfo:
        request = pb.GetPipelineRequest(pipeline=name)
        with domain_errors("rag"):
            answer = await self._stub.GetPipeline(request, metadata=metadata_of(caller))
        return convert.pipeline_from(answer)

    async def chunk(self, caller: Caller, pipeline: str, text: str) -> Sequence[Chunk]:
        request = pb.ChunkTextRequest(pipeline=pipeline, text=text)
        with domain_errors("rag"):
            answer = await self._stub.ChunkText(request, metadata=metadata_of(caller))
        return [convert.chunk_from(each) for each in answer.chunks]


async def messages_of(
    pipeline: str, documents: AsyncIterator[Document]
) -> AsyncIterator[pb.IngestDocumentsRequest]:
    """Documents as a stream sends them: large ones in parts."""
    first = True
    async for document in documents:
        head = replace(document, content=document.content[:_PART])
        yield pb.IngestDocumentsRequest(
            pipeline=pipeline if first else "", document=convert.document_to(head)
        )
        first = False
        for at in range(_PART, len(document.content), _PART):
            yield pb.IngestDocumentsRequest(more_content=document.content[at : at + _PART])
    if first:
        yield pb.IngestDocumentsRequest(pipeline=pipeline)
