"""Qdrant's library in a folder, where it emulates the server in Python.

It takes each point into a transaction of its own. So its SQLite file writes ahead, with one sync
for all points of a call.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from qdrant_client import QdrantClient

from servers.kernel.errors import NotReady, Unavailable

T = TypeVar("T")


class Library:
    """The library, with the methods of the client. It works in the thread that calls it, which
    is one of its own, and takes one call at a time. `run` has several made as one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "qdrant")
        self._client: QdrantClient | None = None

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return partial(self.run, self.do, name)

    async def close(self) -> None:
        await self.run(self._close)
        self._thread.shutdown(wait=False)

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(function, *args, **kwargs))

    def do(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if self._client is None:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._client = _opened(self._folder)
        answer: Any = getattr(self._client, name)(*args, **kwargs)
        if name in ("collection_exists", "create_collection"):
            for file in _files(self._client):
                _set_up(file)
        elif name in ("upsert", "delete"):
            for file in _files(self._client):
                _write_out(file)
        return answer

    def _close(self) -> None:
        if self._client is not None:
            self._client.close()


def _opened(folder: Path) -> QdrantClient:
    try:
        return QdrantClient(path=str(folder))
    except RuntimeError as error:
        if "already accessed" not in str(error):
            raise
        raise NotReady(
            f"another process has {str(folder)!r} open: stop it, name another path, or let both "
            "use a Qdrant server (vector_store.url)",
            reason="STATE_IN_USE",
            folder=str(folder),
        ) from error


def _files(client: Any) -> list[sqlite3.Connection]:
    """It has no settings for these."""
    return [each.storage.storage for each in client._client.collections.values()]


def _set_up(file: sqlite3.Connection) -> None:
    """What is deleted is written over. Commits don't wait for the disk, where there can be a log
    that `_write_out` brings there, in order."""
    file.execute("PRAGMA secure_delete = ON")
    (mode,) = file.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode == "wal":
        file.execute("PRAGMA synchronous = NORMAL")
        file.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # of one who was killed


def _write_out(file: sqlite3.Connection) -> None:
    """Bring all commits to the disk, and empty the log, which has what was deleted."""
    busy, *_ = file.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise Unavailable(
            "somebody else reads the files of Qdrant's folder: ask again",
            reason="STORAGE_BUSY",
            retry_after=1.0,
        )
