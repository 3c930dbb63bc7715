"""`Ingestions` answered by another process: same calls, same values, same errors."""

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import replace

import grpc
from astromesh.rag.v1 import ingestion_pb2 as pb
from astromesh.rag.v1 import rag_service_pb2_grpc
from google.longrunning import operations_pb2 as lro
from google.longrunning import operations_pb2_grpc

from servers.domain.caller import Caller
from servers.domain.ingestions import Ingestion, IngestionFilter, IngestionPage
from servers.domain.rag import Document
from servers.kernel.calls import metadata_of
from servers.kernel.status import domain_errors
from servers.rag import convert
from servers.rag.convert_operations import operation_from, operations_from, where_to

_PART = 2 << 20  # bytes of a document in one message


class RemoteIngestions:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._rag = rag_service_pb2_grpc.RagServiceStub(channel)
        self._stub = operations_pb2_grpc.OperationsStub(channel)

    async def start(
        self,
        caller: Caller,
        pipeline: str,
        documents: AsyncIterator[Document],
        request_id: str = "",
    ) -> Ingestion:
        sent = uploaded(pipeline, documents, request_id)
        with domain_errors("rag"):
            answer = await self._rag.UploadIngestion(sent, metadata=metadata_of(caller))
        return operation_from(answer, caller)

    async def get(self, caller: Caller, name: str) -> Ingestion:
        request = lro.GetOperationRequest(name=name)
        with domain_errors("rag"):
            answer = await self._stub.GetOperation(request, metadata=metadata_of(caller))
        return operation_from(answer, caller)

    async def list(
        self, caller: Caller, where: IngestionFilter, page_size: int = 0, page_token: str = ""
    ) -> IngestionPage:
        request = lro.ListOperationsRequest(
            name="operations", filter=where_to(where), page_size=page_size, page_token=page_token
        )
        with domain_errors("rag"):
            answer = await self._stub.ListOperations(request, metadata=metadata_of(caller))
        return operations_from(answer, caller)

    async def cancel(self, caller: Caller, name: str) -> None:
        request = lro.CancelOperationRequest(name=name)
        with domain_errors("rag"):
            await self._stub.CancelOperation(request, metadata=metadata_of(caller))

    async def delete(self, caller: Caller, name: str) -> None:
        request = lro.DeleteOperationRequest(name=name)
        with domain_errors("rag"):
            await self._stub.DeleteOperation(request, metadata=metadata_of(caller))

    async def wait(self, caller: Caller, name: str, seconds: float) -> Ingestion:
        request = lro.WaitOperationRequest(name=name)
        request.timeout.FromMilliseconds(max(0, round(seconds * 1000)))
        with domain_errors("rag"):
            answer = await self._stub.WaitOperation(
                request, metadata=metadata_of(caller), timeout=seconds + 30
            )
        return operation_from(answer, caller)

    async def watch(self, caller: Caller, name: str) -> AsyncGenerator[Ingestion, None]:
        request = pb.WatchIngestionRequest(name=name)
        call = self._rag.WatchIngestion(request, metadata=metadata_of(caller))
        try:
            with domain_errors("rag"):
                async for answer in call:
                    yield operation_from(answer, caller)
        finally:
            call.cancel()


async def uploaded(
    pipeline: str, documents: AsyncIterator[Document], request_id: str = ""
) -> AsyncIterator[pb.UploadIngestionRequest]:
    """Documents as a stream sends them: large ones in parts."""
    yield pb.UploadIngestionRequest(pipeline=pipeline, request_id=request_id)
    async for document in documents:
        head = replace(document, content=document.content[:_PART])
        yield pb.UploadIngestionRequest(document=convert.document_to(head))
        for at in range(_PART, len(document.content), _PART):
            yield pb.UploadIngestionRequest(more_content=document.content[at : at + _PART])
