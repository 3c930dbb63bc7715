"""Vectors in Qdrant: a server, or its library in a folder. Needs the extra `qdrant`.

A record's points carry all that is said of it; its point 0 stands for it where records are
listed. Words are a sparse vector beside the dense one. A new version of a record is written under
ids of its own, point 0 last, and only then the older one is deleted: a crash leaves one of them
whole. What a torn write left behind is out of sight, as searches skip points whose version is not
that of their record's newest point 0, and goes with the next write.
"""

import asyncio
import uuid
from array import array
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import httpx
from qdrant_client import AsyncQdrantClient
from qdrant_client import models as q
from qdrant_client.http.exceptions import (
    ApiException,
    ResponseHandlingException,
    UnexpectedResponse,
)

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.errors import Unavailable
from servers.kernel.vectors import payloads, versions, words
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.ports import (
    NO_FILTER,
    Found,
    Point,
    Record,
    Scope,
    Space,
    check_space,
    unchanged,
    values_of,
    without_words,
)
from servers.kernel.vectors.qdrant_folder import Folder, Known

_BATCH = 512  # points in one request
_TIMEOUT = 30  # seconds
_WORDS = "words"  # the sparse vector
_INDEXED = ("tenant", "record", "acl", "version")
_IDS = uuid.UUID("5b1f3f0e-7d0b-4a5e-9a53-1c5a6e8e2f10")  # any, for ids made from names


@asynccontextmanager
async def open_at(collection: Collection) -> AsyncIterator["QdrantStore"]:
    """Raises Unavailable (STORE_UNAVAILABLE) where nobody answers."""
    client: Any
    if collection.address:
        client = AsyncQdrantClient(
            url=collection.address,
            api_key=collection.api_key or None,
            timeout=_TIMEOUT,
            check_compatibility=False,
        )
    else:
        client = Folder(collection.folder / collection.name)
    try:
        store = QdrantStore(client, collection)
        await store.space()
        yield store
    finally:
        await client.close()


class QdrantStore:
    """Made by `open_at`."""

    def __init__(self, client: Any, collection: Collection) -> None:
        self._client, self._name = client, collection.name
        self._where, self._server = collection.at("Qdrant"), bool(collection.address)
        self._space: Space | None = None
        self._words = False  # whether the collection has them
        self._known = None if self._server else Known()
        self._lock = asyncio.Lock()  # of two writers of a record one must be last

    async def space(self) -> Space | None:
        if self._space is None:
            with _named(self._where):
                if await self._client.collection_exists(self._name):
                    found = await self._client.get_collection(self._name)
                    said = found.config.metadata or {}
                    self._words = _WORDS in (found.config.params.sparse_vectors or {})
                    self._space = Space(said["model"], said["dimension"])
        return self._space

    async def _call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        with _named(self._where):
            try:
                return await getattr(self._client, method)(self._name, *args, **kwargs)
            except (UnexpectedResponse, ValueError) as error:
                if not _is_gone(error, self._name):
                    raise
                self._space = None  # the next one looks for it again
                if self._known:
                    self._known.forget()
                raise Unavailable(
                    f"collection {self._name!r} is gone from {self._where}: "
                    "take the documents in again",
                    reason="STORE_UNAVAILABLE",
                ) from error

    async def prepare(self, space: Space) -> None:
        async with self._lock:
            if await self.space() is None:
                with _named(self._where):
                    await self._make(space)
            check_space(await self.space(), space, f"collection {self._name!r}")

    async def _make(self, space: Space) -> None:
        await self._client.create_collection(
            self._name,
            vectors_config=q.VectorParams(size=space.dimension, distance=q.Distance.COSINE),
            sparse_vectors_config={_WORDS: q.SparseVectorParams(modifier=q.Modifier.IDF)},
            metadata={"model": space.model, "dimension": space.dimension},
        )
        for key in _INDEXED if self._server else ():  # the library has no indexes
            await self._client.create_payload_index(
                self._name, key, field_schema=q.PayloadSchemaType.KEYWORD, wait=True
            )
        if self._server:
            await self._client.create_payload_index(
                self._name, "expires_at", field_schema=q.PayloadSchemaType.FLOAT, wait=True
            )

    async def replace(
        self, tenant: str, record: Record, points: Sequence[Point], over: Record | None = None
    ) -> bool:
        version = uuid.uuid4().hex
        said = payloads.of_record(tenant, record, len(points)) | {"version": version}
        structs = [
            q.PointStruct(
                id=str(uuid.uuid5(_IDS, f"{version}/{each.index}")),
                vector=self._vectors(each),
                payload=said | payloads.of_point(each),
            )
            for each in reversed(points)  # point 0 makes the record seen
        ]
        async with self._lock:
            if over and not unchanged(await self.record(Scope(tenant), over.id), over):
                return False
            ids = {str(each.id): (each.payload or {})["index"] == 0 for each in structs}
            if self._known:
                await self._known.add(self._call, tenant, record.id, ids.items())
            for at in range(0, len(structs), _BATCH):
                await self._call("upsert", structs[at : at + _BATCH], wait=True)
            await self._remove(tenant, [record.id], version, frozenset(ids))
            return True

    def _vectors(self, point: Point) -> Any:
        dense = list(point.vector)
        return {"": dense, _WORDS: _sparse(words.weights(point.text))} if self._words else dense

    async def _remove(
        self,
        tenant: str,
        records: Sequence[str],
        version: str = "",
        ids: frozenset[str] = frozenset(),
    ) -> None:
        """All points of some records, but those of a version, which are `ids`."""
        if self._known:
            there = await self._known.ids(self._call, tenant, records)
            if gone := [name for name in there if name not in ids]:
                await self._delete(q.PointIdsList(points=list(gone)))
            await self._known.remove(self._call, tenant, records, ids)
            return
        which = _filter(Scope(tenant), {}, must=[_any_of("record", records)])
        which.must_not = [_is("version", version)] if version else None
        await self._delete(q.FilterSelector(filter=which))

    async def _delete(self, which: q.PointIdsList | q.FilterSelector) -> None:
        await self._call("delete", points_selector=which, wait=True)

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
        swept = await self._payloads(q.Filter(must=[_over(now), head]))
        if swept:
            async with self._lock:
                await self._delete_left(swept, now)
                await self._delete(q.FilterSelector(filter=q.Filter(must=[_over(now)])))
                if self._known:
                    self._known.forget()
        return len({(each["tenant"], each["record"]) for each in swept})

    async def _delete_left(self, swept: Sequence[Mapping[str, Any]], now: float) -> None:
        """First what torn writes left of records whose newest version is over: it would be the
        newest one then."""
        for tenant, records in payloads.of_tenants(swept):
            for ids in (records[at : at + _BATCH] for at in range(0, len(records), _BATCH)):
                heads = await self._heads_of(tenant, ids)
                if left := payloads.left_behind(heads, now):
                    which = _filter(Scope(tenant), {}, must=[_any_of("version", left)])
                    await self._delete(q.FilterSelector(filter=which))

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
            return await self._heads(scope, [_any_of("record", ids)], where)

        return await versions.current(seen, look, partial(self._heads_of, scope.tenant))

    async def _heads_of(self, tenant: str, records: Sequence[str]) -> list[payloads.Head]:
        """Of all versions, whoever may see them."""
        if not self._known:
            return await self._heads(Scope(tenant), [_any_of("record", records)])
        if await self.space() is None:
            return []
        ids = await self._known.ids(self._call, tenant, records, heads=True)
        found = await self._call("retrieve", ids=ids) if ids else []
        return [payloads.head_from(each.payload or {}) for each in found]

    async def _heads(
        self, scope: Scope, must: list[q.Condition], where: Where = NO_FILTER
    ) -> list[payloads.Head]:
        """Points 0: each record, and its version."""
        if await self.space() is None:
            return []
        head = q.FieldCondition(key="index", match=q.MatchValue(value=0))
        which = _filter(scope, where, must=[head, *must])
        return [payloads.head_from(each) for each in await self._payloads(which)]

    async def _payloads(self, which: q.Filter) -> list[Mapping[str, Any]]:
        found: list[Mapping[str, Any]] = []
        offset: Any = None
        while True:
            page, offset = await self._call(
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
            query_filter=_filter(scope, where),
            limit=limit,
            with_vectors=with_vectors,
        )

    async def _looked(self, scope: Scope, **query: Any) -> list[Found]:
        """Without what a torn write left behind; `similarity` is the score."""

        async def look() -> tuple[Sequence[versions.Scored], bool]:
            answer = await self._call("query_points", with_payload=True, **query)
            return [(_said(each), each.score) for each in answer.points], True

        return await versions.whole(look, partial(self._heads_of, scope.tenant))

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        asked = words.asked(text)
        if await self.space() is None or not asked:
            return []
        if not self._words:
            raise without_words(self._name)
        seen = _filter(scope, where)
        found = await self._looked(
            scope,
            query=_sparse(dict.fromkeys(asked, 1.0)),
            using=_WORDS,
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
        return await self._count(_filter(Scope(tenant), {}, must=[_is("fields", key)])) > 0

    async def count(self, tenant: str) -> int:
        return await self._count(_filter(Scope(tenant), {}))

    async def _count(self, which: q.Filter) -> int:
        if await self.space() is None:
            return 0
        found = await self._call("count", count_filter=which, exact=True)
        return int(found.count)


def _said(point: q.ScoredPoint) -> dict[str, Any]:
    said = point.payload or {}
    if point.vector is None:
        return said
    named: Any = point.vector
    dense = named[""] if isinstance(named, dict) else named
    return said | {payloads.VECTOR: array("f", dense)}


def _sparse(weights: Mapping[str, float]) -> q.SparseVector:
    of = words.numbered(weights)
    return q.SparseVector(indices=list(of), values=list(of.values()))


def _is(key: str, value: str) -> q.FieldCondition:
    return q.FieldCondition(key=key, match=q.MatchValue(value=value))


def _any_of(key: str, values: Sequence[str]) -> q.FieldCondition:
    return q.FieldCondition(key=key, match=q.MatchAny(any=list(values)))


def _over(now: float) -> q.FieldCondition:
    return q.FieldCondition(key="expires_at", range=q.Range(lte=now))


def _filter(scope: Scope, where: Where, must: Sequence[q.Condition] = ()) -> q.Filter:
    conditions: list[Any] = [_is("tenant", scope.tenant), *must]
    if scope.principal is not None:
        seen = payloads.seen_by(scope.principal)
        conditions.append(_any_of("acl", seen))
    for key, wanted in values_of(where):
        # As texts, with their types: a key may be any text, and is no path in a payload.
        marks = [payloads.mark(key, each) for each in wanted]
        conditions.append(_any_of("marks", marks))
    # What has no end is not in any range.
    return q.Filter(must=conditions, must_not=None if scope.now is None else [_over(scope.now)])


def _is_gone(error: Exception, name: str) -> bool:
    """A server says so by its status, the library in a folder in words."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code == 404
    return str(error) == f"Collection {name} not found"


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except (ResponseHandlingException, httpx.HTTPError, OSError) as error:
        raise Unavailable(
            f"{where} can't be reached: {error}", reason="STORE_UNAVAILABLE", retry_after=1.0
        ) from error
    except ApiException as error:
        raise Unavailable(
            f"{where} refused: {str(error)[:300]}", reason="STORE_UNAVAILABLE"
        ) from error
