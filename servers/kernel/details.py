"""The one table between domain errors and gRPC statuses, read in both directions.

`to_status` and `from_status` are each other's inverse, so that a remote service raises
what a local one would.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from servers.kernel import errors
from servers.kernel.errors import AstromeshError, Violation

DOMAIN = "astromesh"

# Of the classes that share a code, the first is meant where nothing else is said.
CODES: dict[type[AstromeshError], grpc.StatusCode] = {
    errors.InvalidInput: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.NotReady: grpc.StatusCode.FAILED_PRECONDITION,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Interrupted: grpc.StatusCode.ABORTED,
    errors.Denied: grpc.StatusCode.PERMISSION_DENIED,
    errors.Exhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.OutOfTime: grpc.StatusCode.DEADLINE_EXCEEDED,
    errors.DataLost: grpc.StatusCode.DATA_LOSS,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
BY_NUMBER: dict[int, type[AstromeshError]] = {
    code.value[0]: kind for kind, code in reversed(CODES.items())
}
_BY_NAME = {kind.__name__: kind for kind in CODES}
# Names the class in ErrorInfo.metadata where the code alone would mean another one.
_CLASS = "error_class"

# A status travels in the trailers, which most peers limit to 8 KiB with all overheads.
_MESSAGE_BYTES = 768
_FACT_CHARACTERS = 256
_STATUS_BYTES = 4096

_Detail: TypeAlias = Any  # one of google.rpc's detail messages


def to_status(error: AstromeshError) -> status_pb2.Status:
    """Encode: code and message for people, ErrorInfo and its fellows for programs.

    What would not fit into the trailers is cut, violations from the end.
    """
    kind = _kind_of(error)
    code: int = CODES[kind].value[0]
    message = error.message.encode(errors="replace")[:_MESSAGE_BYTES].decode(errors="ignore")
    status = status_pb2.Status(code=code, message=message)
    status.details.add().Pack(_info(error, kind))
    if error.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromMilliseconds(max(0, round(error.retry_after * 1000)))
        status.details.add().Pack(retry)
    if error.violations:
        room = _STATUS_BYTES - status.ByteSize()
        status.details.add().Pack(_violations_to(error, list(_fitting(error.violations, room))))
    return status


def from_status(status: status_pb2.Status) -> AstromeshError | None:
    """Decode what `to_status` encoded; None where somebody else wrote the status."""
    found: dict[str, _Detail] = {}
    for packed in status.details:
        detail = _KNOWN.get(packed.TypeName())
        if detail is not None:
            try:
                found[packed.TypeName()] = detail.FromString(packed.value)
            except DecodeError:
                return None
    info = found.get(error_details_pb2.ErrorInfo.DESCRIPTOR.full_name)
    if not isinstance(info, error_details_pb2.ErrorInfo) or info.domain != DOMAIN:
        return None
    facts = dict(info.metadata)
    kind = _BY_NAME.get(facts.pop(_CLASS, "")) or BY_NUMBER.get(status.code, errors.Internal)
    error = kind(
        status.message,
        reason=info.reason,
        retry_after=_retry_from(found.values()),
        violations=_violations_from(found.values()),
    )
    error.facts = facts  # not through **facts: a foreign key could be named like a parameter
    return error


def code_of(error: AstromeshError) -> grpc.StatusCode:
    """The code that the error has on the wire."""
    return CODES[_kind_of(error)]


def _kind_of(error: AstromeshError) -> type[AstromeshError]:
    return next((kind for kind in type(error).__mro__ if kind in CODES), errors.Internal)


def _info(error: AstromeshError, kind: type[AstromeshError]) -> error_details_pb2.ErrorInfo:
    facts = {key: str(fact)[:_FACT_CHARACTERS] for key, fact in error.facts.items()}
    if BY_NUMBER[CODES[kind].value[0]] is not kind:
        facts[_CLASS] = kind.__name__
    return error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=facts)


def _fitting(violations: Iterable[Violation], room: int) -> Iterator[Violation]:
    for violation in violations:
        room -= len(violation.field.encode()) + len(violation.description.encode()) + 64
        if room < 0:
            return
        yield violation


def _violations_to(error: AstromeshError, violations: list[Violation]) -> _Detail:
    detail: _Detail
    match error:
        case errors.Exhausted():
            detail = error_details_pb2.QuotaFailure()
            for each in violations:
                detail.violations.add(subject=each.field, description=each.description)
        case errors.NotReady():
            detail = error_details_pb2.PreconditionFailure()
            for each in violations:
                detail.violations.add(
                    type=error.reason, subject=each.field, description=each.description
                )
        case _:
            detail = error_details_pb2.BadRequest()
            for each in violations:
                detail.field_violations.add(field=each.field, description=each.description)
    return detail


def _violations_from(details: Iterable[_Detail]) -> tuple[Violation, ...]:
    for detail in details:
        match detail:
            case error_details_pb2.BadRequest():
                return tuple(Violation(v.field, v.description) for v in detail.field_violations)
            case error_details_pb2.QuotaFailure() | error_details_pb2.PreconditionFailure():
                return tuple(Violation(v.subject, v.description) for v in detail.violations)
    return ()


def _retry_from(details: Iterable[_Detail]) -> float | None:
    for detail in details:
        if isinstance(detail, error_details_pb2.RetryInfo):
            return float(detail.retry_delay.ToMilliseconds()) / 1000
    return None


_KNOWN: Mapping[str, type[_Detail]] = {
    kind.DESCRIPTOR.full_name: kind
    for kind in (
        error_details_pb2.ErrorInfo,
        error_details_pb2.RetryInfo,
        error_details_pb2.BadRequest,
        error_details_pb2.QuotaFailure,
        error_details_pb2.PreconditionFailure,
    )
}
