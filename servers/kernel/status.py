"""How errors look on the wire: servicers raise domain errors, and so do remote proxies.

The table between the two is in `servers.kernel.details`. What is no domain error never
leaves as it is: the caller hears where to look, the log has the rest.
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from google.rpc import status_pb2
from grpc_status import rpc_status

from servers.kernel import errors
from servers.kernel.calls import Context, caller_from, deadline_from
from servers.kernel.details import BY_NUMBER, CODES, DOMAIN, from_status, to_status
from servers.kernel.errors import AstromeshError, InvalidInput
from servers.kernel.wrapping import Method, Wrapping

__all__ = [
    "CODES",
    "DOMAIN",
    "Context",
    "StatusInterceptor",
    "caller_from",
    "deadline_from",
    "domain_errors",
    "from_rpc_error",
    "from_status",
    "raised_by_peer",
    "to_status",
    "unexpected",
]

_TRAILER = "grpc-status-details-bin"  # carries a google.rpc.Status

# What servers, proxies and the transport say in their own words.
_FOREIGN = BY_NUMBER | {
    grpc.StatusCode.CANCELLED.value[0]: errors.Unavailable,
    grpc.StatusCode.OUT_OF_RANGE.value[0]: errors.InvalidInput,
    grpc.StatusCode.UNAUTHENTICATED.value[0]: errors.Denied,
    grpc.StatusCode.UNIMPLEMENTED.value[0]: errors.NotReady,
}


_log = structlog.stdlib.get_logger("astromesh.rpc")


def raised_by_peer(failure: grpc.aio.AioRpcError | grpc.Call) -> AstromeshError | None:
    """The domain error that the far side raised; None where the call failed on its way."""
    for key, value in failure.trailing_metadata() or ():
        if key == _TRAILER and isinstance(value, bytes):
            try:
                return from_status(status_pb2.Status.FromString(value))
            except DecodeError:
                return None
    return None


def from_rpc_error(failure: grpc.aio.AioRpcError | grpc.Call) -> AstromeshError:
    """The domain error that a sibling raised, or the one that says what befell the call."""
    if ours := raised_by_peer(failure):
        return ours
    kind = _FOREIGN.get(failure.code().value[0], errors.Internal)
    return kind(failure.details() or "no reason given", reason=failure.code().name)


@contextmanager
def domain_errors() -> Iterator[None]:
    """Re-raise what the far side raised as if it had been raised here."""
    try:
        yield
    except grpc.aio.AioRpcError as failure:
        raise from_rpc_error(failure) from failure


def unexpected(error_id: str) -> AstromeshError:
    """What a caller hears of a bug: where to look, and nothing of what went on inside."""
    return errors.Internal(
        f"internal error; the server's log has it under error_id {error_id}",
        error_id=error_id,
    )


class StatusInterceptor(Wrapping):
    """Lets servicers raise domain errors. Anything else is a bug: logged, and told apart.

    A request that is no message of its type is refused here, too: grpc itself would
    answer UNKNOWN and print the traceback.
    """

    def __init__(self, new_id: Callable[[], str] = lambda: uuid.uuid4().hex[:12]) -> None:
        super().__init__()
        self._new_id = new_id

    def wrap(self, name: str, method: Method) -> Method:
        async def guarded(request: Any, context: Context) -> Any:
            try:
                if request.__class__ is _Malformed:
                    raise request.error
                return await method(request, context)
            except grpc.aio.AbortError:
                raise
            except AstromeshError as error:
                failure = error
            except Exception as error:
                if context.done():  # the caller is gone: nobody is left to tell
                    raise
                failure = self._bug(name, error)
            await context.abort_with_status(rpc_status.to_status(to_status(failure)))

        return guarded

    def _wrapped(self, name: str, handler: Any) -> Any:
        wrapped = super()._wrapped(name, handler)
        if handler.request_deserializer is None:
            return wrapped
        parse = _parsing(name, handler.request_deserializer, handler.request_streaming)
        return wrapped._replace(request_deserializer=parse)

    def _bug(self, name: str, error: Exception) -> AstromeshError:
        failure = unexpected(self._new_id())
        _log.error("bug", method=name, error_id=failure.facts["error_id"], exc_info=error)
        return failure


class _Malformed:
    """Stands for a request that could not be parsed: grpc parses before it calls us."""

    __slots__ = ("error",)

    def __init__(self, error: InvalidInput) -> None:
        self.error = error


def _parsing(name: str, parse: Callable[[bytes], Any], streaming: bool) -> Callable[[bytes], Any]:
    def parsed(raw: bytes) -> Any:
        try:
            return parse(raw)
        except DecodeError:
            error = InvalidInput(
                f"the request of {name} is no message of its type: check that client and "
                "server were generated from the same protos",
                reason="MALFORMED_MESSAGE",
                method=name,
            )
        if streaming:  # read inside the method, where an exception finds its way
            raise error
        return _Malformed(error)

    return parsed
