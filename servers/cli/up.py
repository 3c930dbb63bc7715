"""`astromesh up`: a mesh in this process, Envoy as its child, and an orderly end of both."""

import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
import uvloop

from servers.cli import failures
from servers.cli.banner import Listening, banner
from servers.cli.hello import ask_through_envoy
from servers.cli.screen import Screen
from servers.cli.settings import Options
from servers.cli.stopping import Stop, stopping
from servers.domain.agents import AgentRecord
from servers.domain.caller import Caller
from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError
from servers.kernel.logs import configure_logs

_log = structlog.stdlib.get_logger("astromesh.up")


@dataclass(frozen=True, slots=True)
class _Started:
    listening: Listening
    agents: tuple[AgentRecord, ...]


def run(options: Options) -> int:
    """Serve until a signal comes; gives the exit code. Raises what kept it from starting."""
    began = time.monotonic()
    # grpc's core reads these when it is first used; it would warn of every child we start.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    screen = Screen()
    configure_logs(
        options.log_format.value, options.log_level, screen.log, trace_id=telemetry.trace_id
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_supervise(options, screen, began))


async def _supervise(options: Options, screen: Screen, began: float) -> int:
    task = asyncio.current_task()
    assert task is not None
    with stopping(task) as stop:
        try:
            async with _started(options) as started:
                _settle_memory()
                stop.interruptible = False
                screen.say(banner(started.listening, started.agents, time.monotonic() - began))
                await _greet(options, started, screen, stop)
                await stop.wait()
                screen.say("stopping; Ctrl-C again to stop at once")
        except asyncio.CancelledError:
            return failures.INTERRUPTED
    screen.say("stopped")
    return 0


@asynccontextmanager
async def _started(options: Options) -> AsyncIterator[_Started]:
    """Services first, then the gRPC port, then Envoy before it; the end is in reverse."""
    from servers.config import load_config
    from servers.edge.envoy import open_envoy
    from servers.edge.settings import EdgeSettings
    from servers.mesh import open_mesh, serve_mesh

    config = load_config(
        options.config_dir,
        options.state_dir,
        os.environ,
        options.services,
        http_port=options.http_port,
        grpc_port=options.grpc_port,
    )
    for notice in config.notices:
        _log.warning(notice)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(telemetry.open_telemetry(os.environ, "astromesh"))
        mesh = await enter(open_mesh(config))
        port = await enter(serve_mesh(mesh, host=config.host, port=config.grpc_port))
        http = ""
        if options.envoy:
            edge = EdgeSettings(http_port=config.http_port, grpc_ports=(port,))
            http = (await enter(open_envoy(edge, config.state_dir))).url
        agents: tuple[AgentRecord, ...] = ()
        if "agents" in mesh.local:
            agents = (await mesh.agents.list(Caller(), page_size=1000)).agents
        yield _Started(Listening(f"{config.host}:{port}", http, config.state_dir), agents)
        # While Envoy stands: its callers must hear how their runs ended, or that they go on
        # later. Cut off before, they would have cancelled them.
        await mesh.drain()


async def _greet(options: Options, started: _Started, screen: Screen, stop: Stop) -> None:
    """The self-check, unless it is unwanted or a signal comes first."""
    if not (options.hello and options.envoy):
        return
    greeting = asyncio.create_task(_hello(started, screen))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((greeting, stopped), return_when=asyncio.FIRST_COMPLETED)
    for task in (greeting, stopped):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _hello(started: _Started, screen: Screen) -> None:
    if all(agent.name != "assistant" for agent in started.agents):
        return
    try:
        await ask_through_envoy(started.listening.http, screen)
    except AstromeshError as error:  # the mesh is up: other agents may well work
        failures.tell(error)


def _settle_memory() -> None:
    """What was made by now stays for good: the garbage collector need not look at it again,
    nor at the rest as often as in a small program (a tenth of the time of a busy mesh).

    Runs leave it nothing to find. What does, mostly in errors, and was there for two of its
    looks, goes with the tenth look at what is older; each is short, what stays is not in it.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # so that it doesn't wait until there is a quarter more than what stays
    gc.set_threshold(20_000, 20, 10)
