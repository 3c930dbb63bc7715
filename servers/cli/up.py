"""`astromesh up`: a mesh in this process, Envoy as its child, and an orderly end of both."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import uvloop

from servers.cli import failures
from servers.cli.banner import Listening, banner
from servers.cli.hello import ask_through_envoy
from servers.cli.settings import Settings
from servers.cli.stopping import Stop, stopping
from servers.domain.agents import AgentRecord
from servers.domain.caller import Caller
from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError
from servers.kernel.logs import configure_logs


@dataclass(frozen=True, slots=True)
class _Started:
    listening: Listening
    agents: tuple[AgentRecord, ...]


def run(settings: Settings) -> int:
    """Serve until a signal comes; gives the exit code. Raises what kept it from starting."""
    began = time.monotonic()
    configure_logs(
        settings.log_format.value, settings.log_level, sys.stderr, trace_id=telemetry.trace_id
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(settings, began))


async def _supervise(settings: Settings, began: float) -> int:
    task = asyncio.current_task()
    assert task is not None
    with stopping(task) as stop:
        try:
            async with _started(settings) as started:
                stop.interruptible = False
                _say(banner(started.listening, started.agents, time.monotonic() - began))
                await _greet(settings, started, stop)
                await stop.wait()
                _say("stopping; Ctrl-C again to stop at once")
        except asyncio.CancelledError:
            return failures.INTERRUPTED
    _say("stopped")
    return 0


@asynccontextmanager
async def _started(settings: Settings) -> AsyncIterator[_Started]:
    """Services first, then the gRPC port, then Envoy before it; the end is in reverse."""
    from servers.config import load_config
    from servers.edge.envoy import open_envoy
    from servers.edge.settings import EdgeSettings
    from servers.mesh import open_mesh, serve_mesh

    config = load_config(settings.config_dir, settings.state_dir, os.environ)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(telemetry.open_telemetry(os.environ, "astromesh"))
        mesh = await enter(open_mesh(config))
        port = await enter(serve_mesh(mesh, port=settings.grpc_port))
        http = ""
        if settings.envoy:
            edge_settings = EdgeSettings(http_port=settings.http_port, grpc_ports=(port,))
            http = (await enter(open_envoy(edge_settings, settings.state_dir))).url
        agents = (await mesh.agents.list(Caller(), page_size=1000)).agents
        yield _Started(Listening(f"127.0.0.1:{port}", http, settings.state_dir), agents)


async def _greet(settings: Settings, started: _Started, stop: Stop) -> None:
    """The self-check, unless it is unwanted or a signal comes first."""
    if not (settings.hello and settings.envoy):
        return
    greeting = asyncio.create_task(_hello(started))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((greeting, stopped), return_when=asyncio.FIRST_COMPLETED)
    for task in (greeting, stopped):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _hello(started: _Started) -> None:
    if all(agent.name != "assistant" for agent in started.agents):
        return
    try:
        await ask_through_envoy(started.listening.http, sys.stdout)
    except AstromeshError as error:  # the mesh is up: other agents may well work
        failures.tell(error)


def _say(text: str) -> None:
    print(text, flush=True)
