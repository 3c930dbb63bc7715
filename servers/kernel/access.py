"""What is seen of every call: a line in the log, a span, a duration; and how many there may be."""

import time
from collections.abc import Callable
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars

from servers.kernel import telemetry
from servers.kernel.calls import Context
from servers.kernel.errors import AstromeshError, Exhausted
from servers.kernel.wrapping import Method, Wrapping

_log = structlog.stdlib.get_logger("astromesh.rpc")
_QUIET = ("/grpc.health.", "/grpc.reflection.", "/astromesh.common.v1.HealthService/")


class AccessInterceptor(Wrapping):
    """Stands inside of `StatusInterceptor`, so that it sees errors by their own names.

    More than `limit` calls at once are refused, except for health and reflection.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.perf_counter) -> None:
        super().__init__()
        self._limit, self._clock, self._active = limit, clock, 0

    def wrap(self, name: str, method: Method) -> Method:
        if name.startswith(_QUIET):
            return method
        short = name.strip("/")
        attributes = {"rpc.system.name": "grpc", "rpc.method": short}

        async def observed(request: Any, context: Context) -> Any:
            self._admit()
            started, outcome = self._clock(), "OK"
            self._active += 1
            try:
                bind_contextvars(**_facts(context))  # for good: the task is this call's own
                with telemetry.span(short, attributes):
                    return await method(request, context)
            except BaseException as error:
                outcome = _outcome(error)
                raise
            finally:
                self._active -= 1
                self._tell(short, outcome, self._clock() - started)

        return observed

    def _admit(self) -> None:
        if self._active >= self._limit:
            raise Exhausted(
                f"this server works on {self._limit} calls already: come back later",
                reason="TOO_MANY_CALLS",
                retry_after=1.0,
            )

    def _tell(self, method: str, outcome: str, seconds: float) -> None:
        # Calls that went well are for who looks closely: they would hide the others.
        log = _log.debug if outcome == "OK" else _log.info
        log("call", method=method, outcome=outcome, ms=round(seconds * 1000, 1))
        if telemetry.counting():
            seen = {"rpc.method": method, "rpc.response.status_code": outcome}
            telemetry.record(telemetry.CALL_DURATION, seconds, seen)


def _facts(context: Context) -> dict[str, str]:
    facts: dict[str, str] = {}
    for key, value in context.invocation_metadata() or ():
        if key == "x-request-id":
            facts["request_id"] = str(value)
        elif key == "x-astromesh-tenant":
            facts["tenant"] = str(value)
        elif key == "traceparent":
            telemetry.received(str(value))
    return facts


def _outcome(error: BaseException) -> str:
    return error.reason if isinstance(error, AstromeshError) else type(error).__name__
