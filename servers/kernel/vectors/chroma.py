"""Vectors in Chroma: its library in a folder, or a server. Needs the extra `chroma`.

A new version of a record is written under ids of its own, point 0 last, and only then the older
one is deleted; what a torn write leaves behind is out of sight, and goes with the next write.
Which records there are, and who may see them, is known in this process (`known`): Chroma reads
all that it has for any filter.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import replace
from functools import partial
from heapq import nsmallest
from typing import Any, Final

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.errors import Unavailable
from servers.kernel.vectors import payloads, words
from servers.kernel.vectors.chroma_client import PointGone, called, client_of, close
from servers.kernel.vectors.chroma_collection import BATCH, ChromaCollection
from servers.kernel.vectors.chroma_points import document, id_of, in_scope, metadata, payload
from servers.kernel.vectors.chroma_search import ChromaSearch, InScope
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.heads import Heads
from servers.kernel.vectors.known import Known, Tenant
from servers.kernel.vectors.payloads import Head
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

_EXACT: Final = 2000  # points in scope that are all compared
_THREADS: Final = 8
_LOOKS: Final = 6  # at points that others replace meanwhile
_LOOKS_AT_ALL: Final = 3  # of these, after which each point is looked for

Look = Callable[[Tenant, Sequence[Head], InScope], Awaitable[Sequence[Found]]]


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
        writer, call = uuid.uuid4().hex, partial(called, where, threads)
        self._in = ChromaCollection(client, name, where, call, writer, lambda: self._known.forget())
        self._known = Known(self._in.heads, self._in, time.monotonic)
        self._search = ChromaSearch(self._in, exact)
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
        async with self._lock:
            if over and not unchanged(await self.record(Scope(tenant), over.id), over):
                return False
            with self._forgetting(tenant):
                await self._replace(tenant, record, points)
            return True

    async def _replace(self, tenant: str, record: Record, points: Sequence[Point]) -> None:
        version = uuid.uuid4().hex
        said = payload(tenant, record, version, len(points))
        await self._write(said, points)

        def stored(heads: Heads) -> None:
            if points:
                heads.put(payloads.head_from(said))
            heads.keep(record.id, {version})

        self._known.change(tenant, stored)
        older = {"tenant": tenant}, {"record": record.id}, {"version": {"$ne": version}}
        await self._in.delete(*older)
        # Who read before that has both, and may take the older one for the newest.
        self._known.change(tenant, partial(Heads.keep, record=record.id, versions={version}))
        # Of the whole: who reads before the older one is gone may take that for the newest.
        await self._in.leave_mark()

    async def _write(self, said: Mapping[str, Any], points: Sequence[Point]) -> None:
        as_words = self._in.has_words
        last_first = list(reversed(points))  # point 0 makes the record seen
        for batch in (last_first[at : at + BATCH] for at in range(0, len(points), BATCH)):
            await self._in.call(
                "upsert",
                ids=[id_of(said["version"], each.index) for each in batch],
                embeddings=[list(each.vector) for each in batch],
                documents=[document(each, as_words) for each in batch],
                metadatas=[metadata(said, each, as_words) for each in batch],
            )

    @contextmanager
    def _forgetting(self, tenant: str | None) -> Iterator[None]:
        """What a write that failed has left is read again."""
        try:
            yield
        except BaseException:
            self._known.forget(tenant)
            raise

    async def delete(self, tenant: str, *records: str) -> int:
        if not records or await self.space() is None:
            return 0
        async with self._lock:
            newest = [(await self._heads(tenant)).newest(each) for each in records]
            with self._forgetting(tenant):
                await self._in.delete({"tenant": tenant}, {"record": {"$in": list(records)}})
                await self._in.leave_mark()
            for each in records:
                self._known.change(tenant, partial(Heads.keep, record=each))
        return sum(head[0].points for head in newest if head)

    async def sweep(self, now: float) -> int:
        if await self.space() is None:
            return 0
        over = {"expires_at": {"$lte": now}}
        swept = await self._in.metadatas([over, {"index": 0}])
        if swept:
            async with self._lock:
                with self._forgetting(None):
                    await self._delete_left(swept, now)
                    await self._in.delete(over)
                    await self._in.leave_mark()
                self._known.forget()
        return len({(each["tenant"], each["record"]) for each in swept})

    async def _delete_left(self, swept: Sequence[Mapping[str, Any]], now: float) -> None:
        """First what torn writes left of records whose newest version is over: it would be the
        newest one then."""
        for tenant, records in payloads.of_tenants(swept):
            for ids in (records[at : at + BATCH] for at in range(0, len(records), BATCH)):
                heads = await self._in.heads(tenant, [{"record": {"$in": ids}}])
                if left := payloads.left_behind(heads, now):
                    await self._in.delete({"tenant": tenant}, {"version": {"$in": left}})

    async def _heads(self, tenant: str) -> Heads:
        return (await self._known.tenant(tenant)).heads

    async def record(self, scope: Scope, record: str) -> Record | None:
        if await self.space() is None:
            return None
        head = (await self._heads(scope.tenant)).newest(record)
        return head[0] if head and payloads.is_seen(scope, head[0]) else None

    async def records(
        self, scope: Scope, after: str, limit: int, where: Where = NO_FILTER
    ) -> Sequence[Record]:
        if await self.space() is None:
            return []
        seen = (await self._heads(scope.tenant)).seen(scope, where)
        later = (record for record, _ in seen if record.id > after)
        return nsmallest(limit, later, key=lambda each: each.id)

    async def search(
        self,
        scope: Scope,
        vector: Vector,
        limit: int,
        where: Where,
        with_vectors: bool = False,
    ) -> Sequence[Found]:
        async def look(_: Tenant, seen: Sequence[Head], mine: InScope) -> Sequence[Found]:
            return await self._search.near(seen, mine, vector, limit, with_vectors)

        return await self._found(scope, where, look)

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        asked = words.asked(text)
        if await self.space() is None or not asked:
            return []
        if not self._in.has_words:
            raise without_words(self._in.name)

        async def look(tenant: Tenant, seen: Sequence[Head], mine: InScope) -> Sequence[Found]:
            return await self._search.saying(tenant, seen, mine, asked, limit, with_vectors)

        found = await self._found(scope, where, look)
        scored = ((each.similarity, replace(each, similarity=0.0)) for each in found)
        return words.in_order(scored, limit)

    async def _found(self, scope: Scope, where: Where, look: Look) -> Sequence[Found]:
        """Of the newest version of each record, as it was once during the call."""
        if await self.space() is None:
            return []
        mine, lacking = partial(in_scope, scope, where), set[str]()
        for left in reversed(range(_LOOKS)):
            # At last without our own writers.
            async with self._lock if not left else nullcontext():
                tenant = await self._known.tenant(scope.tenant)
                change, every = tenant.heads.change, tenant.heads.seen(scope, where)
                # One that lacked a point, and was yet there when it was read again, will lack it.
                seen = [each for each in every if each[1] not in lacking]
                try:
                    return await look(tenant, seen, mine)
                except PointGone:
                    if left <= _LOOKS_AT_ALL:
                        lacking |= await self._search.lacking(seen, mine)
                    if tenant.heads.change == change or lacking:  # it was none of us
                        self._known.forget(scope.tenant)
        raise Unavailable(
            f"collection {self._in.name!r} is changed all the time: ask again",
            reason="STORAGE_BUSY",
            retry_after=1.0,
        )

    async def knows(self, tenant: str, key: str) -> bool:
        return await self.space() is not None and (await self._heads(tenant)).knows(key)

    async def count(self, tenant: str) -> int:
        return 0 if await self.space() is None else (await self._heads(tenant)).points()
