"""Vectors in Chroma: its library in a folder, or a server. Needs the extra `chroma`.

Chroma compares plain values only, so that lists (who may see a record, what it can be filtered
by) are keys of their own: `acl:@alice`, `mark:["lang","de"]`, `field:lang`. Its document is a
text's words between spaces, as Chroma compares characters; the text is a key, too. A new version
of a record is written under ids of its own, point 0 last, and only then the older one is deleted;
what a torn write leaves behind is out of sight, as in `qdrant`.

Its sparse vectors work in its cloud only, so that words are weighed here: of the texts that have
any, the first `_MOST_WEIGHED` by how rare the words are that they have.
"""

import asyncio
import uuid
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import chromadb
import httpx
from chromadb.config import Settings
from chromadb.errors import ChromaError, NotFoundError

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.errors import InvalidInput, Unavailable
from servers.kernel.vectors import payloads, words
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
_MOST_WEIGHED = 2000  # texts that have a query's words
_PATIENCE = 60.0  # seconds for one answer
_THREADS = 8
_SETTINGS: dict[str, Any] = {"anonymized_telemetry": False}
_LISTS = {"acl": "acl", "marks": "mark", "fields": "field"}  # of a payload -> keys in Chroma

Scored: TypeAlias = tuple[dict[str, Any], float]  # a payload, and how near it is


@asynccontextmanager
async def open_at(collection: Collection) -> AsyncIterator["ChromaStore"]:
    """Raises Unavailable (STORE_UNAVAILABLE) where nobody answers."""
    # Of its own: where Chroma hangs, what others do in threads goes on.
    threads = ThreadPoolExecutor(_THREADS, "chroma")
    try:
        client = await _called(threads, _client, collection)
        try:
            store = ChromaStore(client, collection.name, threads)
            await store.space()
            yield store
        finally:
            await asyncio.to_thread(_close, client)
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def _sessions(client: Any) -> list[httpx.Client]:
    servers = client._server, client._admin_client._server
    return [each._session for each in servers if hasattr(each, "_session")]


def _close(client: Any) -> None:
    # Its connections, which Chroma itself leaves open.
    sessions = _sessions(client)
    client.close()
    for session in sessions:
        session.close()


def _client(collection: Collection) -> Any:
    """Blocks. The server's client is that for threads, too: of the one for asyncio all in a
    process share their headers, and would send one server's key to another."""
    if not collection.address:
        collection.folder.mkdir(parents=True, exist_ok=True)
        return chromadb.PersistentClient(str(collection.folder), settings=Settings(**_SETTINGS))
    parts = urlsplit(collection.address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("vector_store.url: expected http://HOST:PORT")
    secure, key = parts.scheme == "https", collection.api_key
    client = chromadb.HttpClient(
        host=parts.hostname,
        port=parts.port or (443 if secure else 8000),
        ssl=secure,
        headers={"Authorization": f"Bearer {key}"} if key else None,
        settings=Settings(**_SETTINGS),
    )
    for session in _sessions(client):
        session.timeout = httpx.Timeout(_PATIENCE)  # Chroma sets none: threads would wait for ever
    return client


async def _called(
    threads: ThreadPoolExecutor, function: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    """In a thread, as the library blocks."""
    loop = asyncio.get_running_loop()
    with _named():
        async with asyncio.timeout(_PATIENCE):
            return await loop.run_in_executor(threads, partial(function, *args, **kwargs))


class ChromaStore:
    """Made by `open_at`."""

    def __init__(self, client: Any, name: str, threads: ThreadPoolExecutor) -> None:
        self._client, self._name, self._threads = client, name, threads
        self._collection: Any = None
        self._words = False  # whether documents are words
        self._space: Space | None = None
        self._lock = asyncio.Lock()  # of two writers of a record one must be last

    async def space(self) -> Space | None:
        if self._space is None:
            try:
                get = self._client.get_collection
                found = await _called(self._threads, get, self._name, embedding_function=None)
            except NotFoundError:
                return None
            self._collection = found
            self._words = "words" in found.metadata
            self._space = Space(found.metadata["model"], found.metadata["dimension"])
        return self._space

    async def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return await _called(self._threads, function, *args, **kwargs)
        except NotFoundError as error:  # of a server that was started without its data, say
            self._space = None  # the next one looks for it again
            raise Unavailable(
                f"collection {self._name!r} is gone from Chroma: take the documents in again",
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
        swept = len(await self._get([over, {"index": 0}]))
        if swept:
            async with self._lock:
                await self._call(self._collection.delete, where=over)
        return swept

    async def record(self, scope: Scope, record: str) -> Record | None:
        heads = await self._heads(scope, [{"record": record}])
        return next((each for each, _ in payloads.newest(heads).values()), None)

    async def records(
        self, scope: Scope, after: str, limit: int, where: Where = NO_FILTER
    ) -> Sequence[Record]:
        found = payloads.newest(await self._heads(scope, [], where))
        return [found[name][0] for name in sorted(found) if name > after][:limit]

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
        found = await self._call(
            self._collection.query,
            query_embeddings=[list(vector)],
            n_results=limit,
            where=_all(_seen(scope, where)),
            include=["metadatas", "documents", "distances"],
        )
        rows = zip(found["metadatas"][0], found["documents"][0], found["distances"][0], strict=True)
        said = [({"text": text} | _deep(each), 1 - distance) for each, text, distance in rows]
        return await self._whole(scope, said, with_vectors)

    async def _whole(self, scope: Scope, said: list[Scored], with_vectors: bool) -> list[Found]:
        """Without what a torn write left behind; `similarity` is the score."""
        if said and with_vectors:
            said = await self._with_vectors(said)
        ids = sorted({payload["record"] for payload, _ in said})
        everybody = Scope(scope.tenant)  # a newer version may be seen by others
        heads = await self._heads(everybody, [{"record": {"$in": ids}}]) if ids else []
        return payloads.whole(said, heads)

    async def _with_vectors(self, said: list[Scored]) -> list[Scored]:
        """Without what is deleted by now."""
        named = {f"{each['version']}/{each['index']}": (each, score) for each, score in said}
        found = await self._call(self._collection.get, ids=list(named), include=["embeddings"])
        vectors = dict(zip(found["ids"], found["embeddings"], strict=True))
        return [
            (each | {payloads.VECTOR: array("f", vectors[name])}, score)
            for name, (each, score) in named.items()
            if name in vectors
        ]

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        asked = words.asked(text)
        if await self.space() is None or not asked:
            return []
        if not self._words:
            raise without_words(self._name)
        seen = _all(_seen(scope, where))
        texts = len(await self._ids(seen))
        having = {each: await self._ids(seen, f" {each} ") for each in asked}
        rare = {each: words.rarity(len(ids), texts) for each, ids in having.items() if ids}
        most: Counter[str] = Counter()  # what a point can score
        for each, rarity in rare.items():
            most.update(dict.fromkeys(having[each], rarity))
        said = await self._weighed([name for name, _ in most.most_common(_MOST_WEIGHED)], rare)
        best = sorted(said, key=lambda each: -each[1])[: limit * 2]
        found = await self._whole(scope, best, with_vectors)
        return words.in_order(
            ((each.similarity, replace(each, similarity=0.0)) for each in found), limit
        )

    async def _ids(self, where: Any, word: str | None = None) -> list[str]:
        having = {"$contains": word} if word else None
        found = await self._call(
            self._collection.get, where=where, where_document=having, include=[]
        )
        return list(found["ids"])

    async def _weighed(self, ids: list[str], rare: Mapping[str, float]) -> list[Scored]:
        if not ids:
            return []
        include = ["metadatas", "documents"]
        found = await self._call(self._collection.get, ids=ids, include=include)
        weights = (words.weighed(text.split()) for text in found["documents"])
        return [
            (_deep(each), sum(of.get(word, 0.0) * rarity for word, rarity in rare.items()))
            for each, of in zip(found["metadatas"], weights, strict=True)
        ]

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


@contextmanager
def _named() -> Iterator[None]:
    try:
        yield
    except NotFoundError:
        raise
    except (ChromaError, httpx.HTTPError, OSError) as error:
        raise Unavailable(
            f"Chroma can't be used: {str(error)[:300]}", reason="STORE_UNAVAILABLE", retry_after=1.0
        ) from error
    except ValueError as error:  # of its client, where nobody answers
        if "connect" not in str(error).lower():
            raise
        raise Unavailable(
            f"Chroma can't be reached: {error}", reason="STORE_UNAVAILABLE", retry_after=1.0
        ) from error
