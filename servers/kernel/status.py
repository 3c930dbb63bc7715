"""How errors look on the wire: servicers raise domain errors, and so do remote proxies.

The table between the two is in `servers.kernel.details`, what proxies do in
`servers.kernel.peer`; both can be had from here, too. What is no domain error never
leaves as it is: the caller hears where to look, the log has the rest.
"""

import uuid
from collections.abc import Callable
from typing import Any

import grpc
import structlog
from google.protobuf.message import DecodeError
from grpc_status import rpc_status

from servers.kernel import errors
from servers.kernel.calls import Context, caller_from, deadline_from
from servers.kernel.details import CODES, DOMAIN, from_status, to_status
from servers.kernel.errors import AstromeshError, InvalidInput
from servers.kernel.peer import domain_errors, from_rpc_error, raised_by_peer
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

_log = structlog.stdlib.get_logger("astromesh.rpc")


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
            status = rpc_status.to_status(to_status(failure))
            # Its traceback leads to all that the call has worked with, and grpc, which keeps what
            # abort raises with the call, would hold on to it until the garbage is collected.
            del failure
            await context.abort_with_status(status)

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
