"""What a failed call to another process means: the domain error that was raised there."""

from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from servers.kernel import errors
from servers.kernel.details import BY_NUMBER, from_status
from servers.kernel.errors import AstromeshError

_TRAILER = "grpc-status-details-bin"  # carries a google.rpc.Status

# What servers, proxies and the transport say in their own words.
_FOREIGN = BY_NUMBER | {
    grpc.StatusCode.CANCELLED.value[0]: errors.Unavailable,
    grpc.StatusCode.OUT_OF_RANGE.value[0]: errors.InvalidInput,
    grpc.StatusCode.UNAUTHENTICATED.value[0]: errors.Denied,
    grpc.StatusCode.UNIMPLEMENTED.value[0]: errors.NotReady,
}


def raised_by_peer(failure: grpc.aio.AioRpcError | grpc.Call) -> AstromeshError | None:
    """The domain error that the far side raised; None where the call failed on its way."""
    for key, value in failure.trailing_metadata() or ():
        if key == _TRAILER and isinstance(value, bytes):
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                return None
    return None


def from_rpc_error(failure: grpc.aio.AioRpcError | grpc.Call, service: str = "") -> AstromeshError:
    """The domain error that a sibling raised, or the one that says what befell the call.

    `service` is the sibling, to be named where it does not answer.
    """
    if ours := raised_by_peer(failure):
        return ours
    if service and failure.code() is grpc.StatusCode.UNAVAILABLE:
        return errors.Unavailable(
            f"the service {service!r} does not answer: start it, or correct its address under "
            f"spec.services in runtime.yaml ({failure.details() or 'no reason given'})",
            reason="NOT_SERVING",
            service=service,
        )
    kind = _FOREIGN.get(failure.code().value[0], errors.Internal)
    return kind(failure.details() or "no reason given", reason=failure.code().name)


@contextmanager
def domain_errors(service: str = "") -> Iterator[None]:
    """Re-raise what the far side raised as if it had been raised here."""
    try:
        yield
    except grpc.aio.AioRpcError as failure:
        raise from_rpc_error(failure, service) from failure
