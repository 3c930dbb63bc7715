"""Vectors in Qdrant: a server, or its library in a folder. Needs the extra `qdrant`.

A record's points carry all that is said of it; its point 0 stands for it where records are
listed. Words are a sparse vector beside the dense one. A new version of a record is written under
ids of its own, point 0 last, and only then the older one is deleted: a crash leaves one of them
whole. What a torn write left behind is out of sight, as searches skip points whose version is not
that of their record's newest point 0, and goes with the next write.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

from qdrant_client import AsyncQdrantClient
from qdrant_client import models as q

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.vectors import payloads, versions, words
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.ports import (
    NO_FILTER,
    Found,
    Point,
    Record,
    Scope,
    Space,
    VectorStore,
    check_space,
    unchanged,
    without_words,
)
from servers.kernel.vectors.qdrant_collection import BATCH, QdrantCollection
from servers.kernel.vectors.qdrant_folder import QdrantFolder
from servers.kernel.vectors.qdrant_library import Library
from servers.kernel.vectors.qdrant_points import (
    WORDS,
    any_of,
    equals,
    in_scope,
    over,
    payload,
    said_by,
    sparse,
    structs,
)

_TIMEOUT = 30  # seconds


@asynccontextmanager
async def open_at(collection: Collection) -> AsyncIterator[VectorStore]:
    """Raises Unavailable (STORE_UNAVAILABLE) where nobody answers."""
    client: Any
    store: VectorStore
    if collection.address:
        client = AsyncQdrantClient(
            url=collection.address,
            api_key=collection.api_key or None,
            timeout=_TIMEOUT,
            check_compatibility=False,
        )
        store = QdrantStore(client, collection)
    else:
        client = Library(collection.folder / collection.name)
        store = QdrantFolder(client, collection)
    try:
        await store.space()
        yield store
    finally:
        await client.close()


class QdrantStore:
    """On a server, which has indexes for what it filters by. Made by `open_at`.

    `indexed`: whether it can have them; where they are emulated it can't."""

    def __init__(self, client: Any, collection: Collection, indexed: bool = True) -> None:
        self._in = QdrantCollection(client, collection, indexed)
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

    async def replace(
        self, tenant: str, record: Record, points: Sequence[Point], over: Record | None = None
    ) -> bool:
        version = uuid.uuid4().hex
        said = payload(tenant, record, version, len(points))
        made = structs(said, list(reversed(points)), self._in.has_words)  # 0 makes it seen
        async with self._lock:
            if over and not unchanged(await self.record(Scope(tenant), over.id), over):
                return False
            for at in range(0, len(made), BATCH):
                await self._in.call("upsert", made[at : at + BATCH], wait=True)
            await self._remove(tenant, [record.id], but=version)
            return True

    async def _remove(self, tenant: str, records: Sequence[str], but: str = "") -> None:
        """All points of some records, but those of a version."""
        which = in_scope(Scope(tenant), {}, must=[any_of("record", records)])
        which.must_not = [equals("version", but)] if but else None
        await self._delete(which)

    async def _delete(self, which: q.Filter) -> None:
        await self._in.call("delete", points_selector=q.FilterSelector(filter=which), wait=True)

    async def delete(self, tenant: str, *records: str) -> int:
        if not records or await self.space() is None:
            return 0
        async with self._lock:
            heads = await self._heads_of(tenant, records)
            await self._remove(tenant, records)
        return sum(each.points for each, _ in payloads.newest(heads).values())

    async def sweep(self, now: float) -> int:
        if await self.space() is None:
            return 0
        head = q.FieldCondition(key="index", match=q.MatchValue(value=0))
        swept = await self._payloads(q.Filter(must=[over(now), head]))
        if swept:
            async with self._lock:
                await self._delete_left(swept, now)
                await self._delete(q.Filter(must=[over(now)]))
        return len({(each["tenant"], each["record"]) for each in swept})

    async def _delete_left(self, swept: Sequence[Mapping[str, Any]], now: float) -> None:
        """First what torn writes left of records whose newest version is over: it would be the
        newest one then."""
        for tenant, records in payloads.of_tenants(swept):
            for ids in (records[at : at + BATCH] for at in range(0, len(records), BATCH)):
                heads = await self._heads_of(tenant, ids)
                if left := payloads.left_behind(heads, now):
                    which = in_scope(Scope(tenant), {}, must=[any_of("version", left)])
                    await self._delete(which)

    async def record(self, scope: Scope, record: str) -> Record | None:
        newest = payloads.newest(await self._heads_of(scope.tenant, [record])).values()
        return next((each for each, _ in newest if payloads.is_seen(scope, each)), None)

    async def records(
        self, scope: Scope, after: str, limit: int, where: Where = NO_FILTER
    ) -> Sequence[Record]:
        seen = payloads.newest(await self._heads(scope, [], where))
        names, found = sorted(name for name in seen if name > after), list[Record]()
        while names and len(found) < limit:
            some, names = names[:limit], names[limit:]
            found += await self._current(scope, where, [seen[name] for name in some])
        return found[:limit]

    async def _current(
        self, scope: Scope, where: Where, seen: Sequence[payloads.Head]
    ) -> list[Record]:
        """Without what a torn write left behind, whose newer version may not be seen."""

        async def look(ids: Sequence[str]) -> list[payloads.Head]:
            return await self._heads(scope, [any_of("record", ids)], where)

        return await versions.current(seen, look, partial(self._heads_of, scope.tenant))

    async def _heads_of(self, tenant: str, records: Sequence[str]) -> list[payloads.Head]:
        """Of all versions, whoever may see them."""
        return await self._heads(Scope(tenant), [any_of("record", records)])

    async def _heads(
        self, scope: Scope, must: list[q.Condition], where: Where = NO_FILTER
    ) -> list[payloads.Head]:
        """Points 0: each record, and its version."""
        if await self.space() is None:
            return []
        head = q.FieldCondition(key="index", match=q.MatchValue(value=0))
        which = in_scope(scope, where, must=[head, *must])
        return [payloads.head_from(each) for each in await self._payloads(which)]

    async def _payloads(self, which: q.Filter) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        offset: Any = None
        while True:
            page, offset = await self._in.call(
                "scroll", scroll_filter=which, limit=1000, offset=offset
            )
            found += [each.payload or {} for each in page]
            if offset is None:
                return found

    async def search(
        self,
        scope: Scope,
        vector: Vector,
        limit: int,
        where: Where,
        with_vectors: bool = False,
    ) -> Sequence[Found]:
        if await self.space() is None:
            return []
        return await self._looked(
            scope,
            query=list(vector),
            query_filter=in_scope(scope, where),
            limit=limit,
            with_vectors=with_vectors,
        )

    async def _looked(self, scope: Scope, **query: Any) -> list[Found]:
        """Without what a torn write left behind; `similarity` is the score."""

        async def look() -> tuple[Sequence[versions.Scored], bool]:
            answer = await self._in.call("query_points", with_payload=True, **query)
            return [(said_by(each), each.score) for each in answer.points], True

        return await versions.whole(look, partial(self._heads_of, scope.tenant))

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        asked = words.asked(text)
        if await self.space() is None or not asked:
            return []
        if not self._in.has_words:
            raise without_words(self._in.name)
        seen = in_scope(scope, where)
        found = await self._looked(
            scope,
            query=sparse(dict.fromkeys(asked, 1.0)),
            using=WORDS,
            query_filter=seen,
            search_params=q.SearchParams(idf=q.IdfCorpusParams(corpus=seen)),
            limit=limit,
            with_vectors=with_vectors,
        )
        return words.in_order(
            ((each.similarity, replace(each, similarity=0.0)) for each in found),
            limit,
        )

    async def knows(self, tenant: str, key: str) -> bool:
        return await self._count(in_scope(Scope(tenant), {}, must=[equals("fields", key)])) > 0

    async def count(self, tenant: str) -> int:
        return await self._count(in_scope(Scope(tenant), {}))

    async def _count(self, which: q.Filter) -> int:
        if await self.space() is None:
            return 0
        found = await self._in.call("count", count_filter=which, exact=True)
        return int(found.count)
