"""Vectors in Chroma: its library in a folder, or a server. Needs the extra `chroma`.

Chroma compares plain values only, so that lists (who may see a record, what it can be filtered
by) are keys of their own: `acl:@alice`, `mark:["lang","de"]`, `field:lang`. Its document is a
text's words between spaces, as Chroma compares characters; the text is a key, too. A new version
of a record is written under ids of its own, point 0 last, and only then the older one is deleted;
what a torn write leaves behind is out of sight, as in `qdrant`.

Its sparse vectors work in its cloud only, so that words are weighed here: of the texts that have
any, the first `_MOST_WEIGHED` by how rare the words are that they have.

Its graph (HNSW) is made again after a crash, from what is in its SQLite, and does not lead to each
and every point once points have come and gone. So where little is in scope, or the graph leads to
less than was wanted, what it does not lead to is compared one by one.
"""

import asyncio
import uuid
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias

import numpy as np
from chromadb.errors import NotFoundError

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.errors import Unavailable
from servers.kernel.vectors import payloads, versions, words
from servers.kernel.vectors.chroma_client import called, client_of, close
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

_BATCH = 1000  # points in one request
_EXACT = 2000  # points in scope that are all compared
_MOST_WEIGHED = 2000  # texts that have a query's words
_THREADS = 8
_LISTS = {"acl": "acl", "marks": "mark", "fields": "field"}  # of a payload -> keys in Chroma

Scored: TypeAlias = tuple[dict[str, Any], float]  # a payload, and how near it is


@asynccontextmanager
async def open_chroma(
    collection: Collection, *, exact: int = _EXACT
) -> AsyncIterator["ChromaStore"]:
    """`exact`: points in scope that are all compared. Raises Unavailable (STORE_UNAVAILABLE)
    where nobody answers."""
    # Of its own: where Chroma hangs, what others do in threads goes on.
    threads, where = ThreadPoolExecutor(_THREADS, "chroma"), collection.at("Chroma")
    try:
        client = await called(where, threads, client_of, collection)
        try:
            store = ChromaStore(client, collection.name, where, threads, exact)
            await store.space()
            yield store
        finally:
            await asyncio.to_thread(close, client)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def open_at(collection: Collection) -> AbstractAsyncContextManager["ChromaStore"]:
    return open_chroma(collection)


class ChromaStore:
    """Made by `open_chroma`."""

    def __init__(
        self, client: Any, name: str, where: str, threads: ThreadPoolExecutor, exact: int
    ) -> None:
        self._client, self._name, self._where, self._threads = client, name, where, threads
        self._exact = exact
        self._collection: Any = None
        self._words = False  # whether documents are words
        self._space: Space | None = None
        self._lock = asyncio.Lock()  # of two writers of a record one must be last

    async def space(self) -> Space | None:
        if self._space is None:
            try:
                get = self._client.get_collection
                found = await called(
                    self._where, self._threads, get, self._name, embedding_function=None
                )
            except NotFoundError:
                return None
            self._collection = found
            self._words = "words" in found.metadata
            self._space = Space(found.metadata["model"], found.metadata["dimension"])
        return self._space

    async def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return await called(self._where, self._threads, function, *args, **kwargs)
        except NotFoundError as error:  # of a server that was started without its data, say
            self._space = None  # the next one looks for it again
            raise Unavailable(
                f"collection {self._name!r} is gone from {self._where}: "
                "take the documents in again",
                reason="STORE_UNAVAILABLE",
            ) from error

    async def prepare(self, space: Space) -> None:
        async with self._lock:
            if await self.space() is None:
                await self._call(
                    self._client.get_or_create_collection,
                    self._name,
                    metadata={"model": space.model, "dimension": space.dimension, "words": 1},
                    configuration={"hnsw": {"space": "cosine", "ef_search": 200}},
                    embedding_function=None,
                )
            check_space(await self.space(), space, f"collection {self._name!r}")

    async def replace(
        self, tenant: str, record: Record, points: Sequence[Point], over: Record | None = None
    ) -> bool:
        version = uuid.uuid4().hex
        said = _flat(payloads.of_record(tenant, record, len(points)) | {"version": version})
        last_first = list(reversed(points))  # point 0 makes the record seen
        async with self._lock:
            if over and not unchanged(await self.record(Scope(tenant), over.id), over):
                return False
            for batch in (last_first[at : at + _BATCH] for at in range(0, len(points), _BATCH)):
                await self._call(
                    self._collection.upsert,
                    ids=[f"{version}/{each.index}" for each in batch],
                    embeddings=[list(each.vector) for each in batch],
                    documents=[self._document(each) for each in batch],
                    metadatas=[said | self._said(each) for each in batch],
                )
            older = _all([*_in(tenant, record.id), {"version": {"$ne": version}}])
            await self._call(self._collection.delete, where=older)
            return True

    def _document(self, point: Point) -> str:
        return f" {' '.join(words.words(point.text))} " if self._words else point.text

    def _said(self, point: Point) -> dict[str, Any]:
        said = payloads.of_point(point)
        return said if self._words else {key: said[key] for key in said if key != "text"}

    async def delete(self, tenant: str, *records: str) -> int:
        if not records or await self.space() is None:
            return 0
        these = {"record": {"$in": list(records)}}
        async with self._lock:
            heads = await self._heads(Scope(tenant), [these])
            await self._call(self._collection.delete, where=_all([{"tenant": tenant}, these]))
        return sum(each.points for each, _ in payloads.newest(heads).values())

    async def sweep(self, now: float) -> int:
        over = {"expires_at": {"$lte": now}}
        swept = await self._get([over, {"index": 0}])
        if swept:
            async with self._lock:
                await self._delete_left(swept, now)
                await self._call(self._collection.delete, where=over)
        return len({(each["tenant"], each["record"]) for each in swept})

    async def _delete_left(self, swept: Sequence[Mapping[str, Any]], now: float) -> None:
        """First what torn writes left of records whose newest version is over: it would be the
        newest one then."""
        for tenant, records in payloads.of_tenants(swept):
            for ids in (records[at : at + _BATCH] for at in range(0, len(records), _BATCH)):
                heads = await self._heads_of(tenant, ids)
                if left := payloads.left_behind(heads, now):
                    older = {"version": {"$in": left}}
                    await self._call(
                        self._collection.delete, where=_all([{"tenant": tenant}, older])
                    )

    async def record(self, scope: Scope, record: str) -> Record | None:
        heads = await self._heads(Scope(scope.tenant), [{"record": record}])
        newest = payloads.newest(heads).values()
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
            return await self._heads(scope, [{"record": {"$in": list(ids)}}], where)

        return await versions.current(seen, look, partial(self._heads_of, scope.tenant))

    async def _heads_of(self, tenant: str, records: Sequence[str]) -> list[payloads.Head]:
        """Of all versions, whoever may see them."""
        return await self._heads(Scope(tenant), [{"record": {"$in": list(records)}}])

    async def _heads(
        self, scope: Scope, more: list[Any], where: Where = NO_FILTER
    ) -> list[payloads.Head]:
        """Points 0: each record, and its version."""
        found = await self._get([{"index": 0}, *more, *_seen(scope, where)])
        return [payloads.head_from(_deep(each)) for each in found]

    async def _get(self, conditions: list[Any], limit: int | None = None) -> list[Any]:
        if await self.space() is None:
            return []
        where = _all(conditions)
        found = await self._call(
            self._collection.get, where=where, include=["metadatas"], limit=limit
        )
        return list(found["metadatas"])

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
        seen = _all(_seen(scope, where))

        async def look() -> tuple[Sequence[Scored], bool]:
            near = await self._nearest(vector, limit, seen)
            best = sorted(near, key=lambda name: (-near[name], name))[:limit]
            kept = await self._kept(best)
            said = [(payload, near[name]) for name, (payload, _) in kept.items()]
            return await self._with_vectors(said, with_vectors, len(best))

        return await versions.whole(look, partial(self._heads_of, scope.tenant))

    async def _nearest(self, vector: Vector, limit: int, seen: Any) -> dict[str, float]:
        """Similarities by id, of the best ones at least."""
        ids = await self._ids(seen, limit=self._exact + 1)
        if len(ids) > self._exact:
            near = await self._by_graph(vector, limit, seen)
            if len(near) == limit:
                return near
            ids = await self._ids(seen)
        near = await self._by_graph(vector, len(ids), seen) if ids else {}
        return near | await self._one_by_one(vector, [each for each in ids if each not in near])

    async def _by_graph(self, vector: Vector, limit: int, seen: Any) -> dict[str, float]:
        """Those that the graph leads to: where points came and went, or it was made again after
        a crash, these are not all."""
        found = await self._call(
            self._collection.query,
            query_embeddings=[list(vector)],
            n_results=limit,
            where=seen,
            include=["distances"],
        )
        pairs = zip(found["ids"][0], found["distances"][0], strict=True)
        return {name: 1 - distance for name, distance in pairs}

    async def _one_by_one(self, vector: Vector, ids: list[str]) -> dict[str, float]:
        asked = np.frombuffer(vector, np.float32)
        kept = await self._vectors(ids)
        return {name: float(np.dot(each, asked)) for name, each in kept.items()}

    async def _vectors(self, ids: list[str]) -> dict[str, Any]:
        vectors: dict[str, Any] = {}
        for batch in (ids[at : at + _BATCH] for at in range(0, len(ids), _BATCH)):
            found = await self._call(self._collection.get, ids=batch, include=["embeddings"])
            vectors |= zip(found["ids"], found["embeddings"], strict=True)
        return vectors

    async def _kept(self, ids: Sequence[str]) -> dict[str, tuple[dict[str, Any], str]]:
        """By id what is kept with the point, and its document; in the order of `ids`."""
        kept: dict[str, tuple[dict[str, Any], str]] = {}
        for batch in (list(ids[at : at + _BATCH]) for at in range(0, len(ids), _BATCH)):
            include = ["metadatas", "documents"]
            found = await self._call(self._collection.get, ids=batch, include=include)
            rows = zip(found["ids"], found["metadatas"], found["documents"], strict=True)
            kept |= {name: ({"text": text} | _deep(each), text) for name, each, text in rows}
        return {name: kept[name] for name in ids if name in kept}

    async def _with_vectors(
        self, said: list[Scored], wanted: bool, looked_for: int
    ) -> tuple[list[Scored], bool]:
        """Where they are wanted. Tells, too, whether all is there that was looked for."""
        if wanted:
            named = {f"{each['version']}/{each['index']}": (each, score) for each, score in said}
            vectors = await self._vectors(list(named))
            said = [
                (each | {payloads.VECTOR: array("f", vectors[name])}, score)
                for name, (each, score) in named.items()
                if name in vectors
            ]
        return said, len(said) == looked_for

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        asked = words.asked(text)
        if await self.space() is None or not asked:
            return []
        if not self._words:
            raise without_words(self._name)
        seen = _all(_seen(scope, where))

        async def look() -> tuple[Sequence[Scored], bool]:
            said, all_there = await self._weighed(asked, seen)
            best = sorted(said, key=lambda each: -each[1])[: limit * 2]
            found, still = await self._with_vectors(best, with_vectors, len(best))
            return found, all_there and still

        found = await versions.whole(look, partial(self._heads_of, scope.tenant))
        return words.in_order(
            ((each.similarity, replace(each, similarity=0.0)) for each in found), limit
        )

    async def _ids(self, where: Any, word: str = "", limit: int | None = None) -> list[str]:
        having = {"$contains": word} if word else None
        found = await self._call(
            self._collection.get, where=where, where_document=having, include=[], limit=limit
        )
        return list(found["ids"])

    async def _weighed(self, asked: Sequence[str], seen: Any) -> tuple[list[Scored], bool]:
        """What has any of the words, and whether all of it was still there."""
        texts = len(await self._ids(seen))
        having = {each: await self._ids(seen, f" {each} ") for each in asked}
        rare = {each: words.rarity(len(ids), texts) for each, ids in having.items() if ids}
        most: Counter[str] = Counter()  # what a point can score
        for each, rarity in rare.items():
            most.update(dict.fromkeys(having[each], rarity))
        ids = [name for name, _ in most.most_common(_MOST_WEIGHED)]
        said = list[Scored]()
        for payload, document in (await self._kept(ids)).values():
            of = words.weighed(document.split())
            score = sum(of.get(word, 0.0) * rarity for word, rarity in rare.items())
            said.append((payload, score))
        return said, len(said) == len(ids)

    async def knows(self, tenant: str, key: str) -> bool:
        return bool(await self._get([{"tenant": tenant}, {f"field:{key}": True}], limit=1))

    async def count(self, tenant: str) -> int:
        heads = payloads.newest(await self._heads(Scope(tenant), []))
        return sum(each.points for each, _ in heads.values())


def _in(tenant: str, record: str) -> list[Any]:
    return [{"tenant": tenant}, {"record": record}]


def _seen(scope: Scope, where: Where) -> list[Any]:
    conditions: list[Any] = [{"tenant": scope.tenant}]
    if scope.principal is not None:
        seen = payloads.seen_by(scope.principal)
        conditions.append(_any([{f"acl:{each}": True} for each in seen]))
    if scope.now is not None:  # what has no end has no such key
        conditions.append(_any([{"ends": {"$ne": True}}, {"expires_at": {"$gt": scope.now}}]))
    for key, wanted in values_of(where):
        conditions.append(_any([{f"mark:{payloads.mark(key, each)}": True} for each in wanted]))
    return conditions


def _all(conditions: list[Any]) -> Any:
    return conditions[0] if len(conditions) == 1 else {"$and": conditions}


def _any(conditions: list[Any]) -> Any:
    return conditions[0] if len(conditions) == 1 else {"$or": conditions}


def _flat(payload: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in payload.items() if key not in _LISTS}
    plain |= {"ends": True} if "expires_at" in payload else {}
    for key, prefix in _LISTS.items():
        plain |= {f"{prefix}:{each}": True for each in payload[key]}
    return plain


def _deep(flat: Mapping[str, Any]) -> dict[str, Any]:
    acl = [key.removeprefix("acl:") for key in flat if key.startswith("acl:")]
    return {**flat, "acl": acl}
