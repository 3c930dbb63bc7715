"""Envoy as a child of the mesh: started with it, started again when it crashes, ended with it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import structlog

from servers.edge.binary import envoy_binary
from servers.edge.child import running
from servers.edge.settings import EdgeSettings, rendered
from servers.kernel.errors import AstromeshError
from servers.kernel.state_lock import unwritable

_FIRST_PAUSE = 0.25  # seconds before Envoy is started again; doubles with each crash
_LONGEST_PAUSE = 30.0
_SETTLED = 60.0  # seconds of life after which crashes are counted anew

_log = structlog.stdlib.get_logger("astromesh.edge")


class Edge:
    """The public port, whichever Envoy serves it at the moment. Made by `open_envoy`."""

    def __init__(self, settings: EdgeSettings) -> None:
        self.settings = settings
        self.pid = 0  # of the Envoy that runs now; 0 where none does
        self.admin_port = 0
        self._up = asyncio.Event()

    @property
    def http_port(self) -> int:
        return self.settings.http_port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    async def wait_up(self) -> None:
        """Return when an Envoy takes calls."""
        await self._up.wait()

    def _is_up(self, pid: int, http_port: int, admin_port: int) -> None:
        # Whatever port the system chose is kept by the Envoys that follow.
        self.settings = replace(self.settings, http_port=http_port)
        self.pid, self.admin_port = pid, admin_port
        self._up.set()

    def _is_down(self) -> None:
        self.pid = self.admin_port = 0
        self._up.clear()


@asynccontextmanager
async def open_envoy(settings: EdgeSettings, state_dir: Path) -> AsyncIterator[Edge]:
    """Serve the public port while inside. Enter it from the main thread's event loop.

    Leaving takes no new calls, gives those in flight `drain_seconds`, and stops Envoy.
    An Envoy that crashes is started again, later each time, half a minute at the most.

    Raises NotReady (EXTRA_MISSING, PORT_IN_USE, EDGE_FAILED, STATE_NOT_WRITABLE).
    """
    edge = Edge(settings)
    keeper = asyncio.create_task(_keep(edge, envoy_binary(), state_dir / "envoy" / "envoy.yaml"))
    up = asyncio.create_task(edge.wait_up())
    try:
        await asyncio.wait((keeper, up), return_when=asyncio.FIRST_COMPLETED)
        if keeper.done():
            keeper.result()
        yield edge
    finally:
        for task in (up, keeper):
            task.cancel()
            with suppress(asyncio.CancelledError, AstromeshError):
                await task


async def _keep(edge: Edge, binary: Path, config: Path) -> None:
    """Run one Envoy after the other. The first must come up; later ones are tried for ever."""
    crashes = 0
    while True:
        began = time.monotonic()
        try:
            _write(config, edge.settings)
            async with running(binary, config, edge.settings) as child:
                edge._is_up(child.pid, child.http_port, child.admin_port)
                status = await child.gone()
            _log.error("envoy is gone", status=status)
        except AstromeshError as error:
            if not crashes:
                raise
            _log.error("envoy can't be started again", reason=error.reason, message=error.message)
        finally:
            edge._is_down()
        crashes = 1 if time.monotonic() - began > _SETTLED else crashes + 1
        await asyncio.sleep(pause(crashes))


def pause(crashes: int) -> float:
    """Seconds to wait after so many crashes in a row."""
    return float(min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(crashes - 1, 16)))


def _write(config: Path, settings: EdgeSettings) -> None:
    text = rendered(settings)
    try:
        config.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        config.write_text(text)
    except OSError as error:
        raise unwritable(config, error.strerror or str(error)) from error
