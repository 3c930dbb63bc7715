"""Qdrant's library in a folder, where it emulates the server in Python.

It takes each point into a transaction of its own and compares a filter with every point there
is. So its SQLite file writes ahead, with one sync for all points of a call, and what belongs to a
record is known here by its ids.
"""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from qdrant_client import QdrantClient

from servers.kernel.errors import NotReady, Unavailable

_ALL = 2**31  # points in one answer: each answer puts all of them in order first


class Folder:
    """The library, with the methods of the client. It works in the thread that calls it, which
    is one of its own, and takes one call at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, "qdrant")
        self._client: QdrantClient | None = None

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return partial(self._run, self._call, name)

    async def close(self) -> None:
        await self._run(self._close)
        self._thread.shutdown(wait=False)

    async def _run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, partial(function, *args, **kwargs))

    def _call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        if self._client is None:
            self._folder.parent.mkdir(parents=True, exist_ok=True)
            self._client = _opened(self._folder)
        answer = getattr(self._client, name)(*args, **kwargs)
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


Call: TypeAlias = Callable[..., Awaitable[Any]]  # of a method of the client, for a collection


class Known:
    """Which points there are of each record, and which of them are points 0. All who write to
    the folder are here: nobody else can open it. It may name points that are gone."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], dict[str, bool]] | None = None
        self._reading = asyncio.Lock()

    def forget(self) -> None:
        self._of = None

    async def ids(
        self, call: Call, tenant: str, records: Iterable[str], heads: bool = False
    ) -> list[str]:
        of = await self._read(call)
        return [
            name
            for record in records
            for name, is_head in of.get((tenant, record), {}).items()
            if is_head or not heads
        ]

    async def add(
        self, call: Call, tenant: str, record: str, ids: Iterable[tuple[str, bool]]
    ) -> None:
        """Before they are stored: who stores them may not hear of it."""
        of = await self._read(call)
        of.setdefault((tenant, record), {}).update(ids)

    async def remove(
        self, call: Call, tenant: str, records: Iterable[str], but: frozenset[str]
    ) -> None:
        of = await self._read(call)
        for key in [(tenant, record) for record in records]:
            of[key] = {name: head for name, head in of.get(key, {}).items() if name in but}
            if not of[key]:
                del of[key]

    async def _read(self, call: Call) -> dict[tuple[str, str], dict[str, bool]]:
        async with self._reading:
            if self._of is None:
                wanted = ["tenant", "record", "index"]
                points, _ = await call("scroll", limit=_ALL, with_payload=wanted)
                self._of = {}
                for each in points:
                    key = each.payload["tenant"], each.payload["record"]
                    self._of.setdefault(key, {})[each.id] = each.payload["index"] == 0
            return self._of
