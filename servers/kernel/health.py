"""Whether this process takes calls: asked by load balancers (grpc.health.v1) and by people."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any, TypeAlias

from astromesh.common.v1 import health_service_pb2 as pb
from astromesh.common.v1 import health_service_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from servers.kernel.calls import Context
from servers.kernel.errors import NotFound, Unavailable

# Why a service takes no calls now, in a sentence; empty where it does.
Condition: TypeAlias = Callable[[], str]

_UP = health_pb2.HealthCheckResponse.SERVING
_DOWN = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Readiness:
    """What every service of this process says of itself, until the process stops."""

    def __init__(self, conditions: Mapping[str, Condition]) -> None:
        self._conditions = dict(sorted(conditions.items()))
        self.stopping = False

    def stop(self) -> None:
        """From now on nothing is ready."""
        self.stopping = True

    def reasons(self) -> dict[str, str]:
        """Service by service: why it is not ready, or an empty text."""
        if self.stopping:
            return dict.fromkeys(self._conditions, "the server is shutting down")
        return {name: condition() for name, condition in self._conditions.items()}


class ProbedHealth(health_pb2_grpc.HealthServicer):
    """grpc.health.v1, by service and for all of them together ("").

    Unlike the servicer that grpcio brings, it asks for the condition at every check, and
    ends its watches when the server stops, which would otherwise wait for them.
    """

    def __init__(self, readiness: Readiness) -> None:
        self._readiness = readiness
        self._changed = asyncio.Event()
        self._seen: dict[str, str] = {}

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> health_pb2.HealthCheckResponse:
        status = self._status(request.service)
        if status is None:
            raise NotFound(f"no service is named {request.service!r}", service=request.service)
        return health_pb2.HealthCheckResponse(status=status)

    async def List(self, request: Any, context: Context) -> Any:
        statuses = {
            name: health_pb2.HealthCheckResponse(status=_DOWN if reason else _UP)
            for name, reason in self._readiness.reasons().items()
        }
        # The stubs are older than this method.
        return health_pb2.HealthListResponse(statuses=statuses)  # type: ignore[attr-defined]

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Context
    ) -> AsyncGenerator[health_pb2.HealthCheckResponse, None]:
        told = None
        while True:
            changed = self._changed
            status = self._status(request.service) or _UNKNOWN
            if status != told:
                told = status
                yield health_pb2.HealthCheckResponse(status=status)
            if self._readiness.stopping:
                return
            await changed.wait()

    def refresh(self) -> None:
        """Wake whoever watches, if anything is new."""
        reasons = self._readiness.reasons()
        if reasons != self._seen:
            self._seen = reasons
            self._changed.set()
            self._changed = asyncio.Event()

    async def keep_fresh(self, seconds: float) -> None:
        """Refresh for ever."""
        while True:
            self.refresh()
            await asyncio.sleep(seconds)

    def _status(self, service: str) -> int | None:
        reasons = self._readiness.reasons()
        if not service:
            return _DOWN if any(reasons.values()) else _UP
        reason = reasons.get(service)
        return None if reason is None else _DOWN if reason else _UP


class HealthServicer(health_service_pb2_grpc.HealthServiceServicer):
    """The same for people, with reasons: GET /v1/health.

    `agents` counts the agents that can run, and those that can't.
    """

    def __init__(
        self,
        readiness: Readiness,
        version: str,
        agents: Callable[[], Awaitable[tuple[int, int]]],
    ) -> None:
        self._readiness, self._version, self._agents = readiness, version, agents

    async def GetHealth(
        self, request: pb.GetHealthRequest, context: Context
    ) -> pb.GetHealthResponse:
        reasons = self._readiness.reasons()
        for name, reason in reasons.items():
            if reason:
                raise Unavailable(f"{name}: {reason}", reason="NOT_SERVING", service=name)
        ready, broken = await self._agents()
        return pb.GetHealthResponse(
            status="ok",
            version=self._version,
            services=[_service_to(name, reason) for name, reason in reasons.items()],
            agents=pb.GetHealthResponse.AgentCounts(ready=ready, broken=broken),
        )


def _service_to(name: str, reason: str) -> pb.GetHealthResponse.ServiceHealth:
    return pb.GetHealthResponse.ServiceHealth(service=name, ready=not reason, reason=reason)
