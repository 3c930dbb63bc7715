"""Takes over changes in the folder of agents while the mesh runs."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from servers.agents.declare import Declaring
from servers.agents.files import SUFFIXES, Declared, read_agents

_TICK = 1_000  # milliseconds
_log = structlog.stdlib.get_logger("astromesh.agents")


@asynccontextmanager
async def watching(
    folder: Path, declaring: Declaring, take: Callable[[Sequence[Declared]], None]
) -> AsyncIterator[None]:
    """Call `take` with all agents of the folder after every change in it, until left.

    The folder is read once more when the watch begins: what changed since the mesh read
    it is not lost. A folder that does not exist is not watched.
    """
    if not await asyncio.to_thread(folder.is_dir):
        yield
        return
    # No TaskGroup: it would wrap whatever goes wrong inside of the caller's block.
    stop = asyncio.Event()
    watch = asyncio.create_task(_watch(folder, declaring, take, stop), name="watch agents")
    try:
        yield
    finally:
        stop.set()
        await watch


async def _watch(
    folder: Path,
    declaring: Declaring,
    take: Callable[[Sequence[Declared]], None],
    stop: asyncio.Event,
) -> None:
    first = True
    changes = awatch(
        folder,
        watch_filter=_concerns_agents,
        stop_event=stop,
        step=50,
        debounce=200,
        rust_timeout=_TICK,
        yield_on_timeout=True,
    )
    async for changed in changes:
        if changed or first:
            await _read_again(folder, declaring, take)
        first = False


async def _read_again(
    folder: Path, declaring: Declaring, take: Callable[[Sequence[Declared]], None]
) -> None:
    try:
        # In a thread: reading and validating a hundred files would hold up the loop.
        declared = await asyncio.to_thread(read_agents, folder, declaring)
    except OSError as error:  # the folder was taken away: what runs, goes on
        _log.warning("agents not read again", folder=folder.name, error=error.strerror)
        return
    take(declared)
    for each in declared:
        if not each.agent:
            _log.warning("agent not taken over", agent=each.name, reason=each.reason)


def _concerns_agents(change: Change, path: str) -> bool:
    return path.endswith(SUFFIXES)
