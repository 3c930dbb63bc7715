"""Remembers texts and finds them again by what they mean. Satisfies
`domain.services.SemanticMemory`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Final
from weakref import WeakValueDictionary

from servers.domain.caller import Account
from servers.domain.embeddings import Purpose, Vector
from servers.domain.memory import Recorded, SessionKey
from servers.domain.rag import Where
from servers.domain.semantic import (
    Forgetting,
    Memory,
    MemoryPage,
    MemoryQuery,
    Origin,
    Reader,
    Remembered,
    RememberOutcome,
)
from servers.domain.services import Router
from servers.kernel import paging
from servers.kernel.errors import NotFound, Unavailable
from servers.kernel.telemetry import span
from servers.kernel.vectors.embedding import Embedder
from servers.kernel.vectors.ports import Record, Scope, VectorStore, check_where
from servers.memory import memories as records
from servers.memory.collections import Collections
from servers.memory.erasures import Erasures
from servers.memory.names import wrong
from servers.memory.requests import (
    USUALLY_FOUND,
    check_forgetting,
    check_query,
    check_reader,
    check_remembered,
    check_selection,
)
from servers.memory.shared_lock import SharedLock, to_its_end
from servers.memory.sweeping import sweep_all

_AT_ONCE: Final = 500  # memories that are read together
_PATIENCE: Final = 3.0  # seconds: whoever checks wants to know how it is now
_TRIES: Final = 10  # to write over a memory that other processes change, too


class VectorMemory:
    def __init__(
        self,
        collections: Collections,
        router: Router,
        now: Callable[[], float],
        erasures: Erasures,
    ) -> None:
        self._collections, self._router, self._now = collections, router, now
        self._erasures = erasures
        # Of memories that may be the same one at a time is written; gone when nobody holds it.
        self._locks: WeakValueDictionary[tuple[object, ...], asyncio.Lock] = WeakValueDictionary()

    # -- what a caller can do --------------------------------------------------------------

    async def remember(
        self, reader: Reader, remembered: Remembered, collection: str = ""
    ) -> tuple[Memory, RememberOutcome]:
        check_remembered(reader, remembered)
        name = self._collections.name(reader.agent, collection)
        with span("upsert_memory", {"gen_ai.memory.store.id": name}):
            said_at = self._erasures.said_at(remembered)
            whose = records.seen_by(reader, remembered.scope)
            # Also before its text is shown to a model.
            await self._erasures.check(reader, whose, name, said_at)
            store = await self._collections.store(name)
            vector = await self._embedded(reader, name, store, remembered.text)

            async def keep() -> tuple[Memory, RememberOutcome]:
                place = self._collections.place(name).place
                alone = self._alone(place, reader.tenant, reader.agent, whose)
                async with self._lock(name, reader.tenant).shared(), alone:
                    await self._erasures.check(reader, whose, name, said_at)
                    return await self._kept(reader, remembered, name, store, vector)

            return await to_its_end(keep())

    async def recall(self, reader: Reader, query: MemoryQuery) -> Sequence[Memory]:
        check_query(reader, query)
        name = self._collections.name(reader.agent, query.collection)
        with span("search_memory", {"gen_ai.memory.store.id": name}) as seen:
            found = await self._found(reader, query, name)
            seen.set_attribute("gen_ai.memory.record.count", len(found))
        return found

    def check_selection(self, agent: str, query: MemoryQuery, here: str) -> None:
        """Raises InvalidInput for what could not be asked for, whatever the text is. `here`: what
        stands before the names of its fields."""
        check_selection(query, here)
        self._collections.place(self._collections.name(agent, query.collection))

    async def forget(self, reader: Reader, which: Forgetting, collection: str = "") -> int:
        check_forgetting(reader, which)
        name = self._collections.name(reader.agent, collection)
        with span("delete_memory", {"gen_ai.memory.store.id": name}):
            store = await self._collections.store(name)
            if which.id:
                return await self._forget_one(reader, which.id, name, store)
            reader = replace(reader, session=which.session or reader.session)
            if not which.where:
                seen_by = records.all_seen_by(reader)
                here = replace(reader, session=which.session)
                names = self._collections.aliases(name)
                await self._erasures.of_memories(here, seen_by, names)
            condition = records.finds(reader, which.where, which.session)
            gone = await self._delete_all(name, store, reader.tenant, condition)
            if not gone:
                await _check_known(store, reader.tenant, which.where)
            return gone

    async def memories(
        self, reader: Reader, query: MemoryQuery, page_size: int = 0, page_token: str = ""
    ) -> MemoryPage:
        check_reader(reader)
        check_where(query.where)
        name = self._collections.name(reader.agent, query.collection)
        limit = paging.page_limit(page_size)
        condition = records.finds(reader, query.where, reader.session)
        scope = ("memories", reader, name, sorted(query.where.items(), key=repr))
        after = paging.position(scope, page_token, str)[0] if page_token else ""
        store = await self._collections.store(name)
        found = await store.records(self._alive(reader.tenant), after, limit + 1, condition)
        if not found:
            await _check_known(store, reader.tenant, query.where)
        some, more = paging.fitting(found, limit)
        page = tuple(records.memory_from(each, name) for each in some)
        return MemoryPage(page, paging.token(scope, page[-1].id) if more else "")

    async def check(self, collection: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._collections.check(collection)
        except TimeoutError as error:
            raise Unavailable(
                f"the collection {collection!r} doesn't answer", reason="STORE_UNAVAILABLE"
            ) from error

    # -- all there is of somebody ----------------------------------------------------------

    async def of_principal(
        self, tenant: str, principal: str, after: tuple[str, str], limit: int
    ) -> Sequence[Recorded]:
        """Memories that he had a part in, by collection and id, those behind `after`."""
        names = self._collections.names()
        start = names.index(after[0]) if after[0] in names else 0
        found: list[Recorded] = []
        seen: list[VectorStore] = []
        for name in names[start:]:
            store = await self._collections.store(name)
            if len(found) < limit and not any(store is each for each in seen):
                since = after[1] if name == after[0] else ""
                condition = records.had_a_part(principal)
                left = limit - len(found)
                page = await store.records(self._alive(tenant), since, left, condition)
                found += [_recorded(tenant, each, name) for each in page]
                seen.append(store)
        return found

    async def erase(self, tenant: str, principal: str) -> int:
        """Forget them, also those that others had a part in: the text may be his."""
        stores = [(name, await self._collections.store(name)) for name in self._collections.names()]
        await self._erasures.of_principal(tenant, principal)
        condition = records.had_a_part(principal)
        return sum([await self._delete_all(*each, tenant, condition) for each in stores])

    async def sweep(self) -> None:
        """Remove what is over, where somebody has been since the start."""
        now = self._now()
        stores = [(kind, partial(each.sweep, now)) for kind, each in self._collections.opened()]
        await sweep_all("memories", [("sqlite", self._erasures.sweep), *stores])

    # -- parts of them ---------------------------------------------------------------------

    async def _embedded(
        self,
        reader: Reader,
        name: str,
        store: VectorStore,
        text: str,
        purpose: Purpose = Purpose.DOCUMENT,
    ) -> Vector:
        """Raises NotReady (EMBEDDING_MISMATCH) where the collection has another model."""
        account = Account(reader.tenant, reader.principal, reader.agent, reader.session)
        embedder = Embedder(self._router, self._collections.place(name).model, account)
        space, vectors = await embedder.embed([text], purpose)
        await store.prepare(space)
        return vectors[0]

    async def _kept(
        self, reader: Reader, remembered: Remembered, name: str, store: VectorStore, vector: Vector
    ) -> tuple[Memory, RememberOutcome]:
        origin = Origin(reader.principal, reader.session, remembered.run_id, self._now())
        fresh = records.created(reader, remembered, origin, name)
        whose = records.seen_by(reader, remembered.scope)
        for _ in range(_TRIES):
            there = await self._the_same(reader, remembered, fresh.id, name, store, vector)
            if there and not records.has_room_for(there, reader):
                if there.content_hash == records.fingerprint(remembered.text):
                    return records.memory_from(there, name), RememberOutcome.UNCHANGED
                there = None  # what he has to correct is a memory of its own
            if there is None:
                if await store.record(self._alive(reader.tenant), fresh.id):
                    fresh = replace(fresh, id=records.another_id(fresh.id, f"{origin.at}"))
                record = records.record_of(fresh, whose, {})
                await store.replace(reader.tenant, record, records.points_of(fresh, vector))
                return fresh, RememberOutcome.CREATED
            known = records.memory_from(there, name)
            if _has_left_it(known, remembered):
                return known, RememberOutcome.UNCHANGED
            merged = records.merged(known, remembered, origin)
            record = records.record_of(merged, whose, records.parts_of(there))
            points = records.points_of(merged, vector)
            # Another process over the same database may have changed it, or erased it.
            if await store.replace(reader.tenant, record, points, there):
                return merged, RememberOutcome.MERGED
        raise Unavailable(
            "others change the same memory all the time", reason="STORAGE_BUSY", retry_after=1.0
        )

    async def _the_same(
        self,
        reader: Reader,
        remembered: Remembered,
        id: str,
        name: str,
        store: VectorStore,
        vector: Vector,
    ) -> Record | None:
        """The memory that says the same already."""
        mark = records.fingerprint(remembered.text)
        alive = self._alive(reader.tenant)
        there = await store.record(alive, id)
        if there and there.content_hash == mark:
            return there
        threshold = remembered.duplicate_threshold
        threshold = threshold or self._collections.place(name).duplicate_threshold
        condition = records.finds_the_same(reader, remembered.scope)
        near = await store.search(alive, vector, 1, condition)
        for found in near:
            # 1 asks for the same text: of different ones the vectors may be equal.
            alike = found.similarity >= threshold and threshold < 1
            if alike or found.record.content_hash == mark:
                return found.record
        return None

    async def _found(self, reader: Reader, query: MemoryQuery, name: str) -> Sequence[Memory]:
        store = await self._collections.store(name)
        if await store.space() is None:
            return ()  # nobody has remembered anything
        vector = await self._embedded(reader, name, store, query.text, Purpose.QUERY)
        limit = query.top_k or USUALLY_FOUND
        condition = records.finds(reader, query.where)
        found = await store.search(self._alive(reader.tenant), vector, limit, condition)
        if not found:
            await _check_known(store, reader.tenant, query.where)
        least = query.similarity_threshold
        kept = [each for each in found if least is None or each.similarity >= least]
        return tuple(records.found_from(each, name) for each in kept)

    async def _forget_one(self, reader: Reader, id: str, name: str, store: VectorStore) -> int:
        async def forget() -> int:
            async with self._lock(name, reader.tenant).alone():
                record = await store.record(self._alive(reader.tenant), id)
                if record and records.is_his(reader, record):
                    return await store.delete(reader.tenant, id)
            await store.delete(reader.tenant)  # it may be that an earlier try failed half way
            raise NotFound(f"there is no memory {id!r}", reason="MEMORY_NOT_FOUND", memory=id)

        return await to_its_end(forget())

    async def _delete_all(
        self, name: str, store: VectorStore, tenant: str, condition: Where
    ) -> int:
        """A page at a time, between which others remember. What is over goes, too, and isn't
        counted."""
        lock, now = self._lock(name, tenant), self._now()

        async def some(after: str) -> Sequence[Record]:
            async with lock.alone():
                page = await store.records(Scope(tenant), after, _AT_ONCE, condition)
                await store.delete(tenant, *(each.id for each in page))
                return page

        gone, after = 0, ""
        while page := await to_its_end(some(after)):
            gone += sum(each.expires_at is None or each.expires_at > now for each in page)
            after = page[-1].id
        return gone

    def _alive(self, tenant: str) -> Scope:
        return Scope(tenant, now=self._now())

    def _lock(self, name: str, tenant: str) -> SharedLock:
        """Of a collection, whatever it is called."""
        return self._erasures.lock(self._collections.place(name).place, tenant)

    @asynccontextmanager
    async def _alone(self, *which: object) -> AsyncIterator[None]:
        lock = self._locks.setdefault(which, asyncio.Lock())
        async with lock:
            yield


async def _check_known(store: VectorStore, tenant: str, where: Where) -> None:
    for key in where:
        if await store.space() and not await store.knows(tenant, records.user_key(key)):
            raise wrong(f"filter.{key}", "no memory has metadata of that name")


def _has_left_it(memory: Memory, remembered: Remembered) -> bool:
    same = records.fingerprint(memory.text) == records.fingerprint(remembered.text)
    ids = {each.run_id for each in memory.origins}
    return same and bool(remembered.run_id) and remembered.run_id in ids


def _recorded(tenant: str, record: Record, name: str) -> Recorded:
    memory = records.memory_from(record, name)
    return Recorded(SessionKey(tenant, memory.agent, ""), None, name, memory)
