"""Vectors in a folder of this machine: SQLite is the record, FAISS finds.

What is written is in SQLite, vectors too, before it is acknowledged. The index holds the same
vectors by the same numbers. It is saved in the background, with the count of changes that it
has; what it lacks at the next start is read from SQLite, and an index that can't be read is
built anew. Deleted vectors leave both.

Exact search, not approximate: an index of one machine's documents is small enough, and what a
query may see (tenant, access, metadata) is chosen in SQL and searched alone.

Without the package `faiss` the index is an array, made anew at each start, and our own compiled
functions search it: the same answers from the same folder.
"""

import asyncio
from array import array
from collections.abc import AsyncIterator, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Any, TypeVar

import numpy as np
import structlog

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.sqlite import Database, open_database
from servers.kernel.vectors import postings, rows, words
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.index import Index, NewIndex, best_index, read_index, write_index
from servers.kernel.vectors.ports import (
    NO_FILTER,
    Found,
    Point,
    Record,
    Scope,
    Space,
    check_space,
)

T = TypeVar("T")

_log = structlog.stdlib.get_logger("astromesh.vectors")
_MOST_SEEN = 64  # scopes and filters whose numbers are kept
_MOST_NUMBERS = 4_000_000  # of all of them together, of 8 bytes; or those of one
_SAVE_EVERY = 5.0  # seconds, at most, where something has changed
_SWEPT = 500  # records that are removed together


@asynccontextmanager
async def open_faiss(
    folder: Path, name: str, save_every: float = _SAVE_EVERY, new_index: NewIndex | None = None
) -> AsyncIterator["FaissStore"]:
    """`new_index` None: FAISS, where it is installed. Raises as `open_database`."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with open_database(folder / f"{name}.db", rows.MIGRATIONS, erasing=True) as database:
        store = FaissStore(database, folder / f"{name}.faiss", name, new_index or best_index())
        await store.load()
        saving = asyncio.create_task(store.keep_saved(save_every))
        try:
            yield store
        finally:
            saving.cancel()
            with suppress(asyncio.CancelledError):
                await saving
            await store.finish()


def open_at(collection: Collection) -> AbstractAsyncContextManager["FaissStore"]:
    return open_faiss(collection.folder, collection.name)


class FaissStore:
    """Made by `open_faiss`. One at a time changes the index, and nobody searches it meanwhile."""

    def __init__(self, database: Database, file: Path, name: str, new_index: NewIndex) -> None:
        self._database, self._file, self._name = database, file, name
        self._new_index = new_index
        self._lock = asyncio.Lock()
        self._space: Space | None = None
        self._index: Index | None = None
        self._saved = -1  # the change up to which the file is
        # Until something changes: the change, and the numbers.
        self._seen: dict[tuple[Scope, str], tuple[int, array[int]]] = {}
        self._at_work: set[asyncio.Task[Any]] = set()

    # -- the index -------------------------------------------------------------------------

    async def load(self) -> None:
        self._space = await self._database.read(rows.space)
        if self._space is None:
            return
        read = partial(read_index, self._file, self._space.dimension, self._new_index)
        index, self._saved = await asyncio.to_thread(read)
        await self._catch_up(index, self._saved)
        self._index = index
        while await self._database.write(partial(rows.read_words, most=1_000)):
            pass

    async def _catch_up(self, index: Index, since: int) -> None:
        """Bring the index to what SQLite has: numbers that are missing, and that are gone."""
        change = await self._database.read(rows.change)
        if change == since:
            return
        held = await asyncio.to_thread(index.numbers)
        kept = set(await self._database.read(rows.numbers))
        await asyncio.to_thread(index.remove, held - kept)
        missing = sorted(kept - held)
        for part in (missing[at : at + 10_000] for at in range(0, len(missing), 10_000)):
            found = await self._database.read(partial(rows.vectors, numbers=part))
            await asyncio.to_thread(index.add, found)
        _log.info("index brought up to date", added=len(missing), removed=len(held - kept))

    async def keep_saved(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            try:
                await self.save()
            except OSError as error:  # SQLite has it all
                _log.warning("index not saved", file=str(self._file), error=str(error))

    async def finish(self) -> None:
        await asyncio.gather(*self._at_work, return_exceptions=True)
        await self.save()

    async def save(self) -> None:
        await self._whole(self._save())

    async def _save(self) -> None:
        if self._index is None:
            return
        async with self._lock:
            change = await self._database.read(rows.change)
            if change != self._saved:
                await asyncio.to_thread(write_index, self._index, self._file, change)
                self._saved = change

    # -- what the port asks for --------------------------------------------------------------

    async def space(self) -> Space | None:
        return self._space

    async def prepare(self, space: Space) -> None:
        await self._whole(self._prepare(space))

    async def _prepare(self, space: Space) -> None:
        async with self._lock:
            check_space(self._space, space, f"collection {self._name!r}")
            if self._space is None:
                await self._database.write(partial(rows.remember, space=space))
                self._index = self._new_index(space.dimension)
                self._space = space

    async def replace(
        self, tenant: str, record: Record, points: Sequence[Point], over: Record | None = None
    ) -> bool:
        return await self._whole(self._replace(tenant, record, points, over))

    async def delete(self, tenant: str, *records: str) -> int:
        return await self._whole(self._delete(tenant, records))

    async def sweep(self, now: float) -> int:
        return await self._whole(self._sweep(now))

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Whoever leaves early leaves the index as SQLite is, and nobody changes it while a
        thread still looks."""
        task = asyncio.create_task(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return await asyncio.shield(task)

    async def _replace(
        self, tenant: str, record: Record, points: Sequence[Point], over: Record | None
    ) -> bool:
        async with self._lock:
            write = partial(rows.replace, tenant=tenant, new=record, points=points, over=over)
            changed = await self._database.write(write)
            if changed is None:
                return False
            removed, added = changed
            vectors = list(zip(added, (each.vector for each in points), strict=True))
            await asyncio.to_thread(self._change, removed, vectors)
            return True

    async def _delete(self, tenant: str, records: Sequence[str]) -> int:
        removed: list[int] = []
        if records:
            async with self._lock:
                write = partial(rows.delete, tenant=tenant, names=records)
                removed = await self._database.write(write)
                if removed:
                    await asyncio.to_thread(self._change, removed, [])
            await self._database.write_out()
        else:
            await self._database.wipe()  # as whoever has deleted all there is asks at last
        return len(removed)

    async def _sweep(self, now: float) -> int:
        swept, some = 0, _SWEPT
        while some == _SWEPT:
            async with self._lock:
                write = partial(rows.sweep, now=now, most=_SWEPT)
                some, removed = await self._database.write(write)
                if removed:
                    await asyncio.to_thread(self._change, removed, [])
            swept += some
        if swept:
            await self._database.write_out()
        return swept

    def _change(self, removed: Iterable[int], added: Sequence[tuple[int, Vector]]) -> None:
        assert self._index
        self._seen.clear()
        self._index.remove(removed)
        self._index.add([(number, each.tobytes()) for number, each in added])

    async def record(self, scope: Scope, record: str) -> Record | None:
        return await self._database.read(partial(rows.record, scope=scope, name=record))

    async def records(
        self, scope: Scope, after: str, limit: int, where: Where = NO_FILTER
    ) -> Sequence[Record]:
        read = partial(rows.records, scope=scope, after=after, limit=limit, where=where)
        return await self._database.read(read)

    async def search(
        self,
        scope: Scope,
        vector: Vector,
        limit: int,
        where: Where,
        with_vectors: bool = False,
    ) -> Sequence[Found]:
        if self._index is None:
            return []
        return await self._whole(
            self._search(self._index, scope, vector, limit, where, with_vectors)
        )

    async def _search(
        self,
        index: Index,
        scope: Scope,
        vector: Vector,
        limit: int,
        where: Where,
        with_vectors: bool,
    ) -> list[Found]:
        async with self._lock:
            seen = await self._database.read(partial(self._seen_by, scope=scope, where=where))
            if not seen:
                return []
            near = await asyncio.to_thread(index.nearest, seen, vector, limit)
            read = partial(rows.found, near=near, with_vectors=with_vectors)
            return await self._database.read(read)

    def _seen_by(self, connection: Connection, scope: Scope, where: Where) -> "array[int]":
        """The numbers a search may find; many searches in a row ask for the same."""
        whenever = replace(scope, now=None)
        key = (whenever, repr(sorted(where.items())))
        change = rows.change(connection)
        since, seen = self._seen.get(key, (-1, array("q")))
        if since != change:
            seen = rows.seen(connection, whenever, where)
            kept = sum(len(each) for _, each in list(self._seen.values()))
            if len(self._seen) >= _MOST_SEEN or kept + len(seen) > _MOST_NUMBERS:
                self._seen.clear()
            self._seen[key] = change, seen
        over = [] if scope.now is None else rows.over(connection, scope.tenant, scope.now)
        return _without(seen, over) if over else seen

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        if self._space is None:
            return []
        asked = words.asked(text)

        def look(connection: Connection) -> list[Found]:
            # All on one view of the data, so that nobody who writes has to wait.
            seen = self._seen_by(connection, scope, where)
            best = postings.best(connection, seen, asked, limit)
            return rows.found(connection, best, with_vectors)

        found = await self._database.read(look)
        scored = ((each.similarity, replace(each, similarity=0.0)) for each in found)
        return words.in_order(scored, limit)

    async def knows(self, tenant: str, key: str) -> bool:
        return await self._database.read(partial(rows.knows, tenant=tenant, key=key))

    async def count(self, tenant: str) -> int:
        return await self._database.read(partial(rows.count, tenant=tenant))


def _without(seen: "array[int]", over: Sequence[int]) -> "array[int]":
    numbers = np.frombuffer(seen, np.int64)
    return array("q", numbers[~np.isin(numbers, over)].tobytes())
