"""Tells of changes in folders of files while the process runs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from stat import S_ISDIR

import structlog
from watchfiles import Change, awatch

_TICK = 1.0  # seconds between two looks for folders that came or went
_AGAIN = 5.0  # seconds until the next try where files can't be watched
_SWAPPED = "/..data"  # the link by which Kubernetes swaps all files of a mounted ConfigMap
_log = structlog.stdlib.get_logger("astromesh.files")


@asynccontextmanager
async def watching(
    folders: Sequence[Path],
    suffixes: tuple[str, ...],
    changed: Callable[[], Awaitable[None]],
    tick: float = _TICK,
) -> AsyncIterator[None]:
    """Call `changed` after every change of a file in `folders` that ends so, until left.

    It is called once more when the watch begins: what changed since the files were read is
    not lost. A folder may come, go, and be replaced by another one meanwhile.
    """
    # No TaskGroup: it would wrap whatever goes wrong inside of the caller's block.
    stop = asyncio.Event()
    watch = asyncio.create_task(_watch(folders, suffixes, changed, stop, tick), name="watch files")
    try:
        yield
    finally:
        stop.set()
        await watch


async def _watch(
    folders: Sequence[Path],
    suffixes: tuple[str, ...],
    changed: Callable[[], Awaitable[None]],
    stop: asyncio.Event,
    tick: float,
) -> None:
    while not stop.is_set():
        there, due = await asyncio.to_thread(_there, folders), True
        try:
            async with aclosing(_changes(list(there), suffixes, stop, tick)) as changes:
                async for seen in changes:
                    if seen or due:
                        await _told(changed)
                    due = False
                    if await asyncio.to_thread(_there, folders) != there:
                        break  # and the watch begins anew, on those that there are now
        # A folder went just now, or the system watches too many: of that watchfiles makes an
        # error of its own.
        except (OSError, RuntimeError) as error:
            _log.warning("files not watched", error=str(error))
            await _pause(_AGAIN, stop)


async def _told(changed: Callable[[], Awaitable[None]]) -> None:
    try:
        await changed()
    except Exception as error:  # what runs goes on, and the next change is heard
        _log.exception("files not read again", error=repr(error))


async def _changes(
    folders: Sequence[Path], suffixes: tuple[str, ...], stop: asyncio.Event, tick: float
) -> AsyncGenerator[bool, None]:
    """Whether there was one, at each change and each tick."""

    def concerns(change: Change, path: str) -> bool:
        return path.endswith((*suffixes, _SWAPPED))

    while not folders and not stop.is_set():
        await _pause(tick, stop)
        yield False
    if not folders:
        return
    changes = awatch(
        *folders,
        watch_filter=concerns,
        stop_event=stop,
        step=50,
        debounce=200,
        rust_timeout=round(tick * 1000),
        yield_on_timeout=True,
        recursive=False,
    )
    async with aclosing(changes):
        async for seen in changes:
            yield bool(seen)


async def _pause(seconds: float, stop: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()


def _there(folders: Sequence[Path]) -> Mapping[Path, tuple[int, int]]:
    """Those that are folders; one that takes the place of another is not the same."""
    found = {}
    for folder in folders:
        with suppress(OSError):
            about = folder.stat()
            if S_ISDIR(about.st_mode):
                found[folder] = about.st_dev, about.st_ino
    return found
