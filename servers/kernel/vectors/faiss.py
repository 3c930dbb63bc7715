"""Vectors in a folder of this machine: SQLite is the record, FAISS finds.

What is written is in SQLite, vectors too, before it is acknowledged. The index holds the same
vectors by the same numbers. It is saved in the background, with the count of changes that it
has; what it lacks at the next start is read from SQLite, and an index that can't be read is
built anew. Deleted vectors leave both.

Exact search, not approximate: an index of one machine's documents is small enough, and what a
query may see (tenant, access, metadata) is chosen in SQL and searched alone.
"""

import asyncio
import os
from array import array
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import faiss
import numpy as np
import structlog

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.sqlite import Database, open_database
from servers.kernel.vectors import rows, words
from servers.kernel.vectors.collection import Collection
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
_MOST_TIED = 1000  # as good as the last one by their words, of which the first by name are kept
_SAVE_EVERY = 5.0  # seconds, at most, where something has changed


@asynccontextmanager
async def open_faiss(
    folder: Path, name: str, save_every: float = _SAVE_EVERY
) -> AsyncIterator["FaissStore"]:
    """Raises as `open_database`."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    async with open_database(folder / f"{name}.db", rows.MIGRATIONS) as database:
        store = FaissStore(database, folder / f"{name}.faiss", name)
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
    """Made by `open_faiss`. One at a time changes the index, and nobody searches meanwhile."""

    def __init__(self, database: Database, file: Path, name: str) -> None:
        self._database, self._file, self._name = database, file, name
        self._lock = asyncio.Lock()
        self._space: Space | None = None
        self._index: Any = None
        self._saved = -1  # the change up to which the file is
        self._seen: dict[tuple[Scope, str], array[int]] = {}  # until something changes
        self._at_work: set[asyncio.Task[Any]] = set()

    # -- the index -------------------------------------------------------------------------

    async def load(self) -> None:
        self._space = await self._database.read(rows.space)
        if self._space is None:
            return
        dimension = self._space.dimension
        self._index, self._saved = await asyncio.to_thread(_read_index, self._file, dimension)
        await self._catch_up(self._saved)
        while await self._database.write(partial(rows.read_words, most=1_000)):
            pass

    async def _catch_up(self, since: int) -> None:
        """Bring the index to what SQLite has: numbers that are missing, and that are gone."""
        assert self._space
        change = await self._database.read(rows.change)
        if change == since:
            return
        held = set(await asyncio.to_thread(_numbers, self._index))
        kept = set(await self._database.read(rows.numbers))
        await asyncio.to_thread(_remove, self._index, held - kept)
        missing = sorted(kept - held)
        for part in (missing[at : at + 10_000] for at in range(0, len(missing), 10_000)):
            found = await self._database.read(partial(rows.vectors, numbers=part))
            await asyncio.to_thread(_add, self._index, found, self._space.dimension)
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
        if self._index is None:
            return
        async with self._lock:
            change = await self._database.read(rows.change)
            if change != self._saved:
                await asyncio.to_thread(_write_index, self._index, self._file, change)
                self._saved = change

    # -- what the port asks for --------------------------------------------------------------

    async def space(self) -> Space | None:
        return self._space

    async def prepare(self, space: Space) -> None:
        async with self._lock:
            check_space(self._space, space, f"collection {self._name!r}")
            if self._space is None:
                await self._database.write(partial(rows.remember, space=space))
                self._index = _new_index(space.dimension)
                self._space = space

    async def replace(self, tenant: str, record: Record, points: Sequence[Point]) -> None:
        await self._whole(self._replace(tenant, record, points))

    async def delete(self, tenant: str, record: str) -> int:
        return await self._whole(self._delete(tenant, record))

    async def _whole(self, work: Coroutine[Any, Any, T]) -> T:
        """Whoever leaves early leaves the index as SQLite is."""
        task = asyncio.create_task(work)
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return await asyncio.shield(task)

    async def _replace(self, tenant: str, record: Record, points: Sequence[Point]) -> None:
        async with self._lock:
            write = partial(rows.replace, tenant=tenant, record=record, points=points)
            removed, added = await self._database.write(write)
            vectors = list(zip(added, (each.vector for each in points), strict=True))
            await asyncio.to_thread(self._change, removed, vectors)

    async def _delete(self, tenant: str, record: str) -> int:
        async with self._lock:
            write = partial(rows.delete, tenant=tenant, record=record)
            removed = await self._database.write(write)
            if removed:
                await asyncio.to_thread(self._change, removed, [])
            return len(removed)

    def _change(self, removed: Iterable[int], added: Sequence[tuple[int, Vector]]) -> None:
        assert self._space
        self._seen.clear()
        _remove(self._index, removed)
        packed = [(number, each.tobytes()) for number, each in added]
        _add(self._index, packed, self._space.dimension)

    async def record(self, scope: Scope, record: str) -> Record | None:
        return await self._database.read(partial(rows.record, scope=scope, name=record))

    async def records(
        self, scope: Scope, after: str, limit: int, where: Where = NO_FILTER
    ) -> Sequence[Record]:
        read = partial(rows.records, scope=scope, after=after, limit=limit, where=where)
        return await self._database.read(read)

    async def search(
        self, scope: Scope, vector: Vector, limit: int, where: Where
    ) -> Sequence[Found]:
        if self._space is None:
            return []
        async with self._lock:
            seen = await self._seen_by(scope, where)
            if not seen:
                return []
            near = await asyncio.to_thread(_nearest, self._index, seen, vector, limit)
            return await self._database.read(partial(rows.found, near=near))

    async def _seen_by(self, scope: Scope, where: Where) -> "array[int]":
        """The numbers a search may find; many searches in a row ask for the same."""
        key = (scope, repr(sorted(where.items())))
        if key not in self._seen:
            if len(self._seen) >= _MOST_SEEN:
                self._seen.clear()
            read = partial(rows.seen, scope=scope, where=where)
            self._seen[key] = await self._database.read(read)
        return self._seen[key]

    async def keywords(self, scope: Scope, text: str, limit: int, where: Where) -> Sequence[Found]:
        if self._space is None:
            return []
        async with self._lock:
            seen = await self._seen_by(scope, where)
            having = await self._database.read(partial(rows.having, asked=words.asked(text)))
            best = await asyncio.to_thread(_best, seen, having, limit)
            found = await self._database.read(partial(rows.found, near=best))
        scored = ((each.similarity, replace(each, similarity=0.0)) for each in found)
        return words.in_order(scored, limit)

    async def knows(self, tenant: str, key: str) -> bool:
        return await self._database.read(partial(rows.knows, tenant=tenant, key=key))

    async def count(self, tenant: str) -> int:
        return await self._database.read(partial(rows.count, tenant=tenant))


# -- FAISS, in threads -----------------------------------------------------------------------


def _new_index(dimension: int) -> Any:
    return faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))


def _numbers(index: Any) -> Iterator[int]:
    return iter(faiss.vector_to_array(index.id_map).tolist())


def _remove(index: Any, numbers: Iterable[int]) -> None:
    gone = np.fromiter(numbers, np.int64)
    if len(gone):
        index.remove_ids(gone)


def _add(index: Any, vectors: Sequence[tuple[int, bytes]], dimension: int) -> None:
    if vectors:
        numbers = np.array([number for number, _ in vectors], np.int64)
        packed = np.frombuffer(b"".join(each for _, each in vectors), np.float32)
        index.add_with_ids(packed.reshape(-1, dimension), numbers)


def _nearest(index: Any, seen: "array[int]", vector: Vector, limit: int) -> list[tuple[int, float]]:
    """Numbers and similarities of the best ones among those that are seen."""
    selector = faiss.IDSelectorBatch(np.frombuffer(seen, np.int64))
    asked = np.frombuffer(vector, np.float32).reshape(1, -1)
    parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
    scores, numbers = index.search(asked, min(limit, len(seen)), params=parameters)
    pairs = zip(numbers[0].tolist(), scores[0].tolist(), strict=True)
    return [(number, score) for number, score in pairs if number >= 0]


def _best(
    seen: "array[int]", having: Mapping[str, Sequence[rows.Weight]], limit: int
) -> list[tuple[int, float]]:
    """Numbers and scores of the points that say most by BM25, and those as good as the last."""
    numbers = np.sort(np.frombuffer(seen, np.int64))
    scores = np.zeros(len(numbers))
    for pairs in having.values():
        if not pairs or not len(numbers):
            continue
        points = np.fromiter((point for point, _ in pairs), np.int64, len(pairs))
        weights = np.fromiter((weight for _, weight in pairs), np.float64, len(pairs))
        at = np.minimum(np.searchsorted(numbers, points), len(numbers) - 1)
        there = numbers[at] == points
        # A point has a word once, so that no place comes twice.
        scores[at[there]] += weights[there] * words.rarity(int(there.sum()), len(numbers))
    some = np.flatnonzero(scores)
    order = some[np.argsort(-scores[some], kind="stable")]
    last = scores[order[min(limit, len(order)) - 1]] - 0.0001 if len(order) else 0.0
    order = order[scores[order] >= last][: limit + _MOST_TIED]
    return list(zip(numbers[order].tolist(), scores[order].tolist(), strict=True))


def _read_index(file: Path, dimension: int) -> tuple[Any, int]:
    """The saved index and the change up to which it is; an empty one where it is unreadable."""
    try:
        body = file.read_bytes()
        change, packed = int.from_bytes(body[:8], "little"), body[8:]
        index = faiss.deserialize_index(np.frombuffer(packed, np.uint8))
        if index.d != dimension:
            raise ValueError(f"vectors of {index.d} numbers")
        return index, change
    except FileNotFoundError:
        return _new_index(dimension), -1
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        _log.warning("index is built anew", file=str(file), error=str(error))
        return _new_index(dimension), -1


def _write_index(index: Any, file: Path, change: int) -> None:
    """Whole or not at all: a crash leaves the file that was there."""
    fresh = file.with_suffix(".new")
    with fresh.open("wb") as out:
        out.write(change.to_bytes(8, "little"))
        out.write(faiss.serialize_index(index).tobytes())
        out.flush()
        os.fsync(out.fileno())
    fresh.chmod(0o600)
    fresh.replace(file)
