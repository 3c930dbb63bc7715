"""Ingestions behind the caller's back: begun, listed, looked at, waited for, cancelled."""

import asyncio
import sys
from collections.abc import AsyncIterator

from astromesh.rag.v1 import ingestion_pb2 as pb
from astromesh.rag.v1.rag_service_pb2_grpc import RagServiceStub
from google.longrunning import operations_pb2 as lro
from google.longrunning.operations_pb2_grpc import OperationsStub
from google.rpc import code_pb2

from servers.cli.choices import Output
from servers.cli.client import connected
from servers.cli.failures import FAILED
from servers.cli.folder import Folder, files_of, tell_passed_over
from servers.cli.output import Columns, local_time, show_all, show_one
from servers.cli.paging import paged
from servers.cli.rag import fault, progress
from servers.cli.text import clean, counted
from servers.domain.rag import Document
from servers.rag.remote_ingestions import uploaded


def _metadata(operation: lro.Operation) -> pb.IngestionMetadata:
    metadata = pb.IngestionMetadata()
    operation.metadata.Unpack(metadata)
    return metadata


def _state(operation: lro.Operation) -> str:
    if operation.done:
        if not operation.HasField("error"):
            return "done"
        return "cancelled" if operation.error.code == code_pb2.CANCELLED else "given up"
    metadata = _metadata(operation)
    if metadata.waiting:
        return "waiting"
    return "running" if metadata.current_document or metadata.done else "queued"


def _says(operation: lro.Operation) -> str:
    metadata = _metadata(operation)
    failed = f"{metadata.failed} failed" if metadata.failed else ""
    if _state(operation) == "cancelled":  # which says it all
        return failed
    return "; ".join(filter(None, (failed, operation.error.message or metadata.waiting)))


_ROW: Columns = {
    "NAME": lambda operation: operation.name.removeprefix("operations/"),
    "STATE": _state,
    "PIPELINE": lambda operation: _metadata(operation).pipeline,
    "DONE": lambda operation: f"{_metadata(operation).done}/{_metadata(operation).documents}",
    "SAYS": _says,
}
_WHOLE: Columns = {
    "NAME": lambda operation: operation.name,
    "STATE": _state,
    "PIPELINE": lambda operation: _metadata(operation).pipeline,
    "DONE": lambda operation: f"{_metadata(operation).done}/{_metadata(operation).documents}",
    "FAILED": lambda operation: _metadata(operation).failed,
    "CHUNKS": lambda operation: _metadata(operation).chunks,
    "CURRENT": lambda operation: _metadata(operation).current_document,
    "CREATED": lambda operation: local_time(_metadata(operation).create_time),
    "ENDED": lambda operation: local_time(_metadata(operation).end_time),
    "SAYS": lambda operation: operation.error.message or _metadata(operation).waiting,
}


async def ingest_in_background(address: str, pipeline: str, folder: Folder, form: Output) -> int:
    """Gives the exit code: not 0 where a file could not be read."""
    files, faults = await files_of(folder), list[str]()

    async def documents() -> AsyncIterator[Document]:
        async for document, why in folder.read(files):
            if document:
                yield document
            else:
                faults.append(why)
            advance(document.id if document else "")

    with progress(len(files)) as advance:
        async with connected(address) as channel:
            sent = uploaded(pipeline, documents())
            operation = await RagServiceStub(channel).UploadIngestion(sent)
    for why in faults:
        print(f"error: {why}", file=sys.stderr)
    await tell_passed_over(folder, files)
    if form is Output.TABLE:
        print(operation.name)
    else:
        show_one(operation, _WHOLE, form)
    return FAILED if faults else 0


async def list_operations(address: str, only: str, form: Output) -> None:
    request = lro.ListOperationsRequest(name="operations", filter=only)
    async with connected(address) as channel:
        ask = OperationsStub(channel).ListOperations
        found = [each async for each in paged(ask, request, "operations")]
    show_all(found, _ROW, form)


async def get_operation(address: str, name: str, form: Output) -> None:
    async with connected(address) as channel:
        operation = await OperationsStub(channel).GetOperation(_named(name))
    show_one(operation, _WHOLE, form)
    if form is Output.TABLE:
        _tell_failures(operation)


async def cancel_operation(address: str, name: str) -> None:
    request = lro.CancelOperationRequest(name=_named(name).name)
    async with connected(address) as channel:
        await OperationsStub(channel).CancelOperation(request)
        operation = await OperationsStub(channel).GetOperation(_named(name))
    ends = "has ended" if operation.done else "ends with the document in hand"
    done = _metadata(operation)
    print(f"{clean(request.name)} {ends}: {done.done} of {counted(done.documents, 'document')}")


async def delete_operation(address: str, name: str) -> None:
    request = lro.DeleteOperationRequest(name=_named(name).name)
    async with connected(address) as channel:
        await OperationsStub(channel).DeleteOperation(request)
    print(f"deleted {clean(request.name)}")


async def wait_operation(address: str, name: str, seconds: float | None, form: Output) -> int:
    """Shows how it gets on. Gives the exit code: not 0 where anything failed."""
    request = pb.WatchIngestionRequest(name=_named(name).name)
    async with connected(address) as channel:
        shown = progress(
            _metadata(await OperationsStub(channel).GetOperation(_named(name))).documents
        )
        try:
            with shown as advance:
                before = 0
                async with asyncio.timeout(seconds):
                    async for operation in RagServiceStub(channel).WatchIngestion(request):
                        now = _metadata(operation)
                        advance(now.waiting or now.current_document, now.done - before)
                        before = now.done
        except TimeoutError:
            print(f"error: {clean(request.name)} goes on after {seconds} s", file=sys.stderr)
            return FAILED
        except asyncio.CancelledError:  # Ctrl-C
            print(f"{clean(request.name)} goes on", file=sys.stderr)
            raise
    return _told(operation, form)


def _tell_failures(operation: lro.Operation) -> None:
    response, metadata = pb.IngestionResponse(), _metadata(operation)
    operation.response.Unpack(response)
    named = response.failures or metadata.failures
    for each in named:
        print(f"error: {fault(each.id, each.error_message)}", file=sys.stderr)
    if more := metadata.failed - len(named):
        print(f"error: {counted(more, 'more document')} failed", file=sys.stderr)


def _told(operation: lro.Operation, form: Output) -> int:
    _tell_failures(operation)
    if operation.HasField("error"):
        print(f"error: {clean(operation.error.message)}", file=sys.stderr)
    end = _metadata(operation)
    if form is Output.TABLE:
        print(
            f"{end.done} of {counted(end.documents, 'document')}: {end.created} created, "
            f"{end.replaced} replaced, {end.unchanged} unchanged, {end.failed} failed"
        )
        print(counted(end.chunks, "chunk"))
    else:
        show_one(operation, _WHOLE, form)
    return FAILED if end.failed or operation.HasField("error") else 0


def _named(name: str) -> lro.GetOperationRequest:
    full = name if name.startswith("operations/") else f"operations/{name}"
    return lro.GetOperationRequest(name=full)
