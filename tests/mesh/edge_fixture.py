"""A scripted AgentService on a real socket, and a real Envoy before it.

The test decides when the service says what: nothing is sent before the test puts it into
`script`, so that what arrives can be seen piece by piece.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import httpx
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from astromesh.agents.v1 import run_event_pb2, run_pb2
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as grpc_health
from grpc_status import rpc_status

from servers.edge.envoy import Edge, open_envoy
from servers.edge.settings import EdgeSettings
from tests.patience import PATIENCE

END = None  # in a script: the stream ends here


@dataclass
class Asked:
    """A call as the service saw it."""

    request: Any
    metadata: dict[str, str]
    seconds_left: float | None


@dataclass
class ScriptedAgents(agents_grpc.AgentServiceServicer):
    """Answers what the test put into `script`: a Run, a RunEvent, a Status to fail with, END."""

    script: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)
    asked: list[Asked] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)  # the caller went away
    sent: int = 0
    port: int = 0

    def reset(self) -> None:
        self.script, self.left = asyncio.Queue(), asyncio.Event()
        self.asked, self.sent = [], 0

    def say(self, *steps: Any) -> None:
        for step in steps:
            self.script.put_nowait(step)

    async def RunAgent(self, request: Any, context: Any) -> run_pb2.Run:
        self._note(request, context)
        return await self._next(context)

    async def ListRuns(self, request: Any, context: Any) -> run_pb2.ListRunsResponse:
        self._note(request, context)
        return run_pb2.ListRunsResponse()

    async def StreamAgent(
        self, request: Any, context: Any
    ) -> AsyncIterator[run_event_pb2.RunEvent]:
        self._note(request, context)
        try:
            while (step := await self._next(context)) is not END:
                yield step
                self.sent += 1
        except (asyncio.CancelledError, GeneratorExit):
            self.left.set()
            raise

    async def StreamRunEvents(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async for event in self.StreamAgent(request, context):
            yield event

    async def Chat(self, requests: Any, context: Any) -> AsyncIterator[run_event_pb2.RunEvent]:
        async for request in requests:
            yield text(request.query)

    async def _next(self, context: Any) -> Any:
        try:
            step = await self.script.get()
        except asyncio.CancelledError:
            self.left.set()
            raise
        if isinstance(step, status_pb2.Status):
            await context.abort_with_status(rpc_status.to_status(step))
        return step

    def _note(self, request: Any, context: Any) -> None:
        metadata = {key: str(value) for key, value in context.invocation_metadata()}
        self.asked.append(Asked(request, metadata, context.time_remaining()))


def text(piece: str, sequence: int = 1) -> run_event_pb2.RunEvent:
    return run_event_pb2.RunEvent(
        run_id="r1", sequence=sequence, text_delta=run_event_pb2.TextDelta(text=piece, model_call=1)
    )


@asynccontextmanager
async def serving(agents: ScriptedAgents, port: int = 0) -> AsyncIterator[grpc.aio.Server]:
    """The scripted service on 127.0.0.1, with grpc.health.v1 beside it."""
    server = grpc.aio.server()
    agents_grpc.add_AgentServiceServicer_to_server(agents, server)
    health = grpc_health.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    await health.set("", health_pb2.HealthCheckResponse.SERVING)
    agents.port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield server
    finally:
        await server.stop(None)


@dataclass(frozen=True)
class Reached:
    """The scripted service, the edge before it, and clients of the edge."""

    agents: ScriptedAgents
    server: grpc.aio.Server
    edge: Edge
    http: httpx.AsyncClient
    channel: grpc.aio.Channel

    @property
    def grpc(self) -> agents_grpc.AgentServiceStub:
        return agents_grpc.AgentServiceStub(self.channel)


@asynccontextmanager
async def reached_through_envoy(folder: Path, **settings: Any) -> AsyncIterator[Reached]:
    agents = ScriptedAgents()
    async with serving(agents) as server:
        edge_settings = EdgeSettings(http_port=0, grpc_ports=(agents.port,), **settings)
        async with (
            open_envoy(edge_settings, folder) as edge,
            httpx.AsyncClient(base_url=edge.url, timeout=PATIENCE, trust_env=False) as http,
            grpc.aio.insecure_channel(f"127.0.0.1:{edge.http_port}") as channel,
        ):
            yield Reached(agents, server, edge, http, channel)
