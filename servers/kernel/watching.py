"""Tells of changes in folders of files while the process runs."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from stat import S_ISDIR
from typing import TypeAlias

import structlog
from watchfiles import Change, awatch

_TICK = 1.0  # seconds between two looks at the files themselves
_AGAIN = 60.0  # seconds until the system is asked again to tell of changes, where it can't
_SWAPPED = "/..data"  # the link by which Kubernetes swaps all files of a mounted ConfigMap
_log = structlog.stdlib.get_logger("astromesh.files")

# What tells one state of a file, or of a folder, from another.
_State: TypeAlias = tuple[int, ...]


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

    The system tells of changes at once, but not of all: not of a file elsewhere that a link
    leads to, not of what another machine writes into a shared folder, and of none where too
    many are watched already. So each tick looks at the files, too.
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
    seen: Mapping[str, _State | None] | None = None
    async with aclosing(_hints(folders, suffixes, stop, tick)) as hints:
        async for told in hints:
            # Looked at before they are read: what changes meanwhile is seen the next time.
            found = await asyncio.to_thread(_files, folders, suffixes)
            if told or found != seen:
                seen = found
                await _tell(changed)


async def _tell(changed: Callable[[], Awaitable[None]]) -> None:
    try:
        await changed()
    except Exception as error:  # what runs goes on, and the next change is heard
        _log.exception("files not read again", error=repr(error))


async def _hints(
    folders: Sequence[Path], suffixes: tuple[str, ...], stop: asyncio.Event, tick: float
) -> AsyncGenerator[bool, None]:
    """When to look: whether the system told of a change, at each of them and each tick."""
    while not stop.is_set():
        there, failed = await asyncio.to_thread(_there, folders), False
        try:
            async with aclosing(_changes(list(there), suffixes, stop, tick)) as changes:
                async for told in changes:
                    yield told
                    if await asyncio.to_thread(_there, folders) != there:
                        break  # and the watch begins anew, on those that there are now
        # A folder went just now, or the system watches too many: of that watchfiles makes an
        # error of its own.
        except (OSError, RuntimeError) as error:
            _log.warning("files not watched, only looked at", seconds=tick, error=str(error))
            failed = True
        if failed:
            async for _ in _ticks(stop, tick, round(_AGAIN / tick)):
                yield False


async def _changes(
    folders: Sequence[Path], suffixes: tuple[str, ...], stop: asyncio.Event, tick: float
) -> AsyncGenerator[bool, None]:
    """Whether there was one, at each change and each tick."""

    def concerns(change: Change, path: str) -> bool:
        return path.endswith((*suffixes, _SWAPPED))

    if not folders:
        async for _ in _ticks(stop, tick, 1):
            yield False
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


async def _ticks(stop: asyncio.Event, tick: float, times: int) -> AsyncIterator[None]:
    for _ in range(times):
        yield
        with suppress(TimeoutError):
            async with asyncio.timeout(tick):
                await stop.wait()
                return


def _there(folders: Sequence[Path]) -> Mapping[Path, _State]:
    """Those that are folders; one that takes the place of another is not the same."""
    found = {}
    for folder in folders:
        with suppress(OSError):
            about = folder.stat()
            if S_ISDIR(about.st_mode):
                found[folder] = about.st_dev, about.st_ino
    return found


def _files(folders: Sequence[Path], suffixes: tuple[str, ...]) -> Mapping[str, _State | None]:
    """Of a link the file that it leads to."""
    found: dict[str, _State | None] = {}
    for folder in folders:
        with suppress(OSError), os.scandir(folder) as files:
            for file in files:
                if file.name.endswith(suffixes):
                    found[file.path] = _state(file)
    return found


def _state(file: "os.DirEntry[str]") -> _State | None:
    try:
        about = os.stat(file.path)
    except OSError:
        return None  # it is gone, or leads nowhere
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns
