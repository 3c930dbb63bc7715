"""A store in a folder of Qdrant's library, which compares a filter with each of its points.

So what is asked for often is held in memory beside it (`qdrant_kept`): all who write to the folder
are here, as nobody else can open it. Each call is one piece of work in the thread of the library,
so that a search sees a record before or after it is replaced, and nothing between.
"""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import replace
from heapq import nsmallest
from typing import Any, TypeVar

from qdrant_client import models as q

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.vectors import payloads, words
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.index import best_index
from servers.kernel.vectors.ports import (
    NO_FILTER,
    Found,
    Point,
    Record,
    Scope,
    Space,
    check_space,
    unchanged,
    without_words,
)
from servers.kernel.vectors.qdrant_collection import BATCH, QdrantCollection
from servers.kernel.vectors.qdrant_kept import Kept, Near
from servers.kernel.vectors.qdrant_library import Library
from servers.kernel.vectors.qdrant_points import payload, said_by, structs

T = TypeVar("T")

_ALL = 2**31  # points in one answer: each answer puts all of them in order first


class QdrantFolder:
    """Made by `servers.kernel.vectors.qdrant.open_at`."""

    def __init__(self, library: Library, collection: Collection) -> None:
        # The library has no indexes.
        self._in = QdrantCollection(library, collection, indexed=False)
        self._library = library
        self._kept: Kept | None = None  # of the library's thread alone
        self._lock = asyncio.Lock()  # of two writers of a record one must be last

    async def space(self) -> Space | None:
        return await self._in.space()

    async def prepare(self, space: Space) -> None:
        if (kept := await self.space()) is None:
            async with self._lock:
                if await self.space() is None:
                    await self._in.make(space)
            kept = await self.space()
        check_space(kept, space, f"collection {self._in.name!r}")

    async def _work(self, work: Callable[[Kept], T], otherwise: T) -> T:
        """In the library's thread, all of it also where its caller goes away. `otherwise`: where
        there is no collection yet."""
        space = await self.space()
        if space is None:
            return otherwise
        with self._in.named():
            return await self._library.run(self._with_kept, work, space)

    def _with_kept(self, work: Callable[[Kept], T], space: Space) -> T:
        try:
            if self._kept is None:
                self._kept = self._read(space)
            return work(self._kept)
        except BaseException:
            self._kept = None  # it may not be what is in the folder
            raise

    def _read(self, space: Space) -> Kept:
        points, _ = self._do("scroll", limit=_ALL, with_payload=True, with_vectors=True)
        kept = Kept(best_index()(space.dimension))
        kept.put([(str(each.id), each.payload, each.vector) for each in points])
        return kept

    def _do(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return self._library.do(method, self._in.name, *args, **kwargs)

    async def replace(
        self, tenant: str, record: Record, points: Sequence[Point], over: Record | None = None
    ) -> bool:
        version = uuid.uuid4().hex
        said = payload(tenant, record, version, len(points))
        made = structs(said, list(reversed(points)), self._in.has_words)  # 0 makes it seen
        batches = [made[at : at + BATCH] for at in range(0, len(made), BATCH)]

        def first(batch: list[q.PointStruct]) -> Callable[[Kept], None]:
            return lambda kept: self._store(kept, batch)

        def last(kept: Kept) -> None:
            self._store(kept, batches[-1] if batches else [])
            self._delete(kept, kept.ids(tenant, [record.id], but=version))

        async with self._lock:
            if over and not unchanged(await self.record(Scope(tenant), over.id), over):
                return False
            for batch in batches[:-1]:
                await self._work(first(batch), None)
            await self._work(last, None)
            return True

    def _store(self, kept: Kept, batch: list[q.PointStruct]) -> None:
        if batch:
            self._do("upsert", batch, wait=True)
            kept.put([(str(each.id), each.payload or {}, each.vector) for each in batch])

    def _delete(self, kept: Kept, ids: Sequence[str]) -> None:
        if ids:
            self._do("delete", points_selector=q.PointIdsList(points=list(ids)), wait=True)
            kept.remove(ids)

    async def delete(self, tenant: str, *records: str) -> int:
        def remove(kept: Kept) -> int:
            newest = [kept.heads(tenant).newest(each) for each in records]
            self._delete(kept, kept.ids(tenant, records))
            return sum(head[0].points for head in newest if head)

        async with self._lock:
            return await self._work(remove, 0)

    async def sweep(self, now: float) -> int:
        def remove(kept: Kept) -> int:
            records, ids = kept.over(now)
            self._delete(kept, ids)
            return records

        async with self._lock:
            return await self._work(remove, 0)

    async def record(self, scope: Scope, record: str) -> Record | None:
        head = await self._work(lambda kept: kept.heads(scope.tenant).newest(record), None)
        return head[0] if head and payloads.is_seen(scope, head[0]) else None

    async def records(
        self, scope: Scope, after: str, limit: int, where: Where = NO_FILTER
    ) -> Sequence[Record]:
        def listed(kept: Kept) -> list[Record]:
            seen = kept.heads(scope.tenant).seen(scope, where)
            later = (record for record, _ in seen if record.id > after)
            return nsmallest(limit, later, key=lambda each: each.id)

        return await self._work(listed, [])

    async def search(
        self,
        scope: Scope,
        vector: Vector,
        limit: int,
        where: Where,
        with_vectors: bool = False,
    ) -> Sequence[Found]:
        def look(kept: Kept) -> list[Found]:
            seen = kept.heads(scope.tenant).seen(scope, where)
            return self._found(kept.nearest(seen, vector, limit), with_vectors)

        return await self._work(look, [])

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        asked = words.asked(text)
        if await self.space() is None or not asked:
            return []
        if not self._in.has_words:
            raise without_words(self._in.name)

        def look(kept: Kept) -> list[Found]:
            seen = kept.heads(scope.tenant).seen(scope, where)
            return self._found(kept.saying(seen, asked, limit), with_vectors)

        found: list[Found] = await self._work(look, [])
        scored = ((each.similarity, replace(each, similarity=0.0)) for each in found)
        return words.in_order(scored, limit)

    def _found(self, near: Near, with_vectors: bool) -> list[Found]:
        ids = [name for name, _ in near]
        answer = self._do("retrieve", ids, with_vectors=with_vectors)
        said = {str(each.id): said_by(each) for each in answer}
        return [payloads.found_from(said[name], score) for name, score in near if name in said]

    async def knows(self, tenant: str, key: str) -> bool:
        return await self._work(lambda kept: kept.heads(tenant).knows(key), False)

    async def count(self, tenant: str) -> int:
        return await self._work(lambda kept: kept.heads(tenant).points(), 0)
