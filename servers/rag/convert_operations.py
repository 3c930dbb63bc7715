"""Ingestions as google.longrunning.Operation, and back."""

import re

from astromesh.rag.v1 import ingestion_pb2 as pb
from google.longrunning import operations_pb2 as lro
from google.rpc import code_pb2

from servers.domain.caller import Caller
from servers.domain.ingestions import (
    DocumentFailure,
    Ingestion,
    IngestionFilter,
    IngestionPage,
    IngestionState,
)
from servers.kernel.chat_wire import refused, time_from, time_to
from servers.kernel.errors import Conflict, Unavailable
from servers.kernel.status import to_status

_MOST_FAILURES = 100  # of those that the metadata names; the response names all that are known
_CONDITION = re.compile(r'(done|pipeline)\s*=\s*(?:"([^"]*)"|([\w-]+))')


def operation_to(ingestion: Ingestion) -> lro.Operation:
    operation = lro.Operation(name=ingestion.name, done=ingestion.over)
    operation.metadata.Pack(_metadata(ingestion))
    if ingestion.state is IngestionState.DONE:
        operation.response.Pack(_response(ingestion))
    elif ingestion.state is IngestionState.CANCELLED:
        error = Conflict(
            f"it was cancelled after {ingestion.done} of {ingestion.documents} documents",
            reason="OPERATION_CANCELLED",
            operation=ingestion.name,
        )
        operation.error.CopyFrom(to_status(error))
        operation.error.code = code_pb2.CANCELLED  # as AIP-151 has it
    elif ingestion.state is IngestionState.GAVE_UP:
        away = Unavailable(
            f"given up after {ingestion.done} of {ingestion.documents} documents: "
            f"{ingestion.waiting}",
            reason="OPERATION_GAVE_UP",
            operation=ingestion.name,
        )
        operation.error.CopyFrom(to_status(away))
    return operation


def _metadata(ingestion: Ingestion) -> pb.IngestionMetadata:
    return pb.IngestionMetadata(
        pipeline=ingestion.pipeline,
        principal=ingestion.principal,
        documents=ingestion.documents,
        done=ingestion.done,
        created=ingestion.created,
        replaced=ingestion.replaced,
        unchanged=ingestion.unchanged,
        failed=ingestion.failed,
        bytes=ingestion.bytes,
        chunks=ingestion.chunks,
        current_document=ingestion.current,
        waiting=ingestion.waiting,
        cancel_requested=ingestion.cancel,
        create_time=time_to(ingestion.created_at),
        update_time=time_to(ingestion.updated_at),
        end_time=None if ingestion.ended_at is None else time_to(ingestion.ended_at),
        failures=map(_failure_to, ingestion.failures[:_MOST_FAILURES]),
    )


def _response(ingestion: Ingestion) -> pb.IngestionResponse:
    return pb.IngestionResponse(
        documents=ingestion.documents,
        created=ingestion.created,
        replaced=ingestion.replaced,
        unchanged=ingestion.unchanged,
        failed=ingestion.failed,
        chunks=ingestion.chunks,
        failures=map(_failure_to, ingestion.failures),
    )


def _failure_to(failure: DocumentFailure) -> pb.DocumentFailure:
    return pb.DocumentFailure(
        id=failure.id, error_reason=failure.reason, error_message=failure.message
    )


def operation_from(operation: lro.Operation, caller: Caller) -> Ingestion:
    metadata, response = pb.IngestionMetadata(), pb.IngestionResponse()
    operation.metadata.Unpack(metadata)
    if operation.HasField("response"):
        operation.response.Unpack(response)
    ended = time_from(metadata.end_time) if metadata.HasField("end_time") else None
    return Ingestion(
        id=operation.name.removeprefix("operations/"),
        tenant=caller.tenant,
        principal=metadata.principal,
        pipeline=metadata.pipeline,
        created_at=time_from(metadata.create_time),
        updated_at=time_from(metadata.update_time),
        state=_state(operation),
        documents=metadata.documents,
        created=metadata.created,
        replaced=metadata.replaced,
        unchanged=metadata.unchanged,
        failed=metadata.failed,
        bytes=metadata.bytes,
        chunks=metadata.chunks,
        current=metadata.current_document,
        waiting=metadata.waiting,
        cancel=metadata.cancel_requested,
        ended_at=ended,
        failures=tuple(
            DocumentFailure(each.id, each.error_reason, each.error_message)
            for each in response.failures or metadata.failures
        ),
    )


def _state(operation: lro.Operation) -> IngestionState:
    if not operation.done:
        return IngestionState.RUNNING
    if operation.HasField("response"):
        return IngestionState.DONE
    cancelled = operation.error.code == code_pb2.CANCELLED
    return IngestionState.CANCELLED if cancelled else IngestionState.GAVE_UP


def operations_to(page: IngestionPage) -> lro.ListOperationsResponse:
    return lro.ListOperationsResponse(
        operations=map(operation_to, page.ingestions), next_page_token=page.next_page_token
    )


def operations_from(wire: lro.ListOperationsResponse, caller: Caller) -> IngestionPage:
    found = tuple(operation_from(each, caller) for each in wire.operations)
    return IngestionPage(found, wire.next_page_token)


def where_from(text: str) -> IngestionFilter:
    """`done = true AND pipeline = "handbook"`, either of them or none."""
    said: dict[str, str] = {}
    for part in re.split(r"\s+AND\s+", text.strip()) if text.strip() else ():
        found = _CONDITION.fullmatch(part.strip())
        if found is None or found[1] in said:
            raise refused("filter", 'expected done = true, pipeline = "NAME", or both with AND')
        said[found[1]] = found[2] if found[2] is not None else found[3]
    if (done := said.get("done")) not in (None, "true", "false"):
        raise refused("filter", f"done is true or false, not {done!r}")
    return IngestionFilter(None if done is None else done == "true", said.get("pipeline", ""))


def where_to(where: IngestionFilter) -> str:
    parts = [] if where.done is None else [f"done = {str(where.done).lower()}"]
    parts += [f'pipeline = "{where.pipeline}"'] if where.pipeline else []
    return " AND ".join(parts)
