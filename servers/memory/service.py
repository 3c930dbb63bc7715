"""Keeps conversations and picks what a model sees of what is kept. Satisfies
`domain.services.Memory`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import time
from uuid import uuid4

from servers.domain.chat import Message
from servers.domain.memory import (
    Backlog,
    Details,
    MemoryContext,
    RecordPage,
    SessionKey,
    SessionPage,
    Strategy,
    Summary,
    TurnPage,
)
from servers.domain.semantic import NOTHING_BESIDES, Besides, Erased, MemoryQuery, Reader
from servers.domain.semantic import Memory as KeptMemory
from servers.kernel.errors import NotReady, Unavailable
from servers.kernel.paging import fitting, page_limit, position, token
from servers.memory import strategies
from servers.memory.episode_checks import check_selection
from servers.memory.episodes import EpisodicMemory
from servers.memory.gathering import Source, gathered
from servers.memory.names import check_key, check_name, check_principal, wrong
from servers.memory.places import DEFAULT, Places
from servers.memory.ports import ConversationStore, Exchange
from servers.memory.records import Archive
from servers.memory.semantic import VectorMemory
from servers.memory.sweeping import sweep_all


def _unlike_any() -> str:
    return uuid4().hex


class ConversationMemory:
    def __init__(
        self,
        places: Places[ConversationStore],
        episodes: EpisodicMemory,
        now: Callable[[], float] = time,
        new_id: Callable[[], str] = _unlike_any,
        semantic: VectorMemory | None = None,
    ) -> None:
        """`semantic` None: this one keeps conversations alone."""
        self._places, self._now, self._new_id = places, now, new_id
        self._semantic = semantic
        self.episodes = episodes
        self._records = Archive(places, episodes, semantic)

    @property
    def semantic(self) -> VectorMemory:
        if self._semantic is None:
            raise NotReady("this memory service keeps conversations alone")
        return self._semantic

    # -- a session -------------------------------------------------------------------------

    async def append(
        self,
        key: SessionKey,
        messages: Sequence[Message],
        run_id: str = "",
        details: Details = Details(),  # noqa: B008  # frozen
    ) -> int:
        check_key(key)
        _check(messages, run_id, details)
        exchange = Exchange(
            messages,
            run_id,
            self._now(),
            self._new_id(),
            details.principal,
            details.tokens,
            details.counted_by,
            details.ttl,
        )
        store = await self._store(key, details.backend)
        return await store.append(key, exchange)

    async def turns(
        self, key: SessionKey, page_size: int = 0, page_token: str = "", backend: str = ""
    ) -> TurnPage:
        check_key(key)
        limit = page_limit(page_size)
        after = position(key, page_token, int)[0] if page_token else -1
        found = await (await self._store(key, backend)).page(key, after, limit + 1)
        page, more = fitting(found, limit)
        return TurnPage(tuple(page), token(key, page[-1].index) if more else "")

    async def clear(self, key: SessionKey, backend: str = "") -> int:
        """Where no backend is named, in all of them: the agent may have had another one."""
        check_key(key)
        names = [backend] if backend else self._places.names(key.agent)
        stores = [await self._places.store(name) for name in names]
        return sum([await store.clear(key) for store in stores])

    async def context(
        self,
        key: SessionKey,
        strategy: Strategy,
        backend: str = "",
        besides: Besides = NOTHING_BESIDES,
    ) -> MemoryContext:
        check_key(key)
        check_principal(besides.principal)
        strategy = strategies.settled(strategy)
        sources = self._sources(key, besides)
        needed = self._conversation(key, strategy, backend)
        if not sources:
            return await needed
        talk, found, failures = await gathered(needed, sources, besides.patience)
        memories, episodes = (tuple(found.get(each, ())) for each in ("semantic", "episodic"))
        return replace(talk, memories=memories, episodes=episodes, failures=failures)

    async def _conversation(
        self, key: SessionKey, strategy: Strategy, backend: str
    ) -> MemoryContext:
        if strategy.name == "none":
            return MemoryContext()
        return await strategies.shown(await self._store(key, backend), key, strategy)

    def _sources(self, key: SessionKey, besides: Besides) -> dict[str, Source]:
        """What is asked for besides the conversation, each by its name."""
        sources: dict[str, Source] = {}
        reader = Reader(key.tenant, key.agent, besides.principal, key.session)
        if besides.semantic:
            query = replace(besides.semantic, text=besides.query)
            if self._semantic:
                self._semantic.check_selection(key.agent, query, "semantic.")
            sources["semantic"] = lambda: self._recalled(reader, query)
        if selection := besides.episodic:
            check_selection(selection)
            sources["episodic"] = lambda: self.episodes.recent(key, selection, besides.principal)
        return sources

    async def _recalled(self, reader: Reader, query: MemoryQuery) -> Sequence[KeptMemory]:
        return await self.semantic.recall(reader, query)

    async def check(self, backend: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await (await self._places.store(backend)).page(_NOBODY, -1, 1)
        except TimeoutError as error:
            raise Unavailable(
                f"the backend {backend!r} doesn't answer", reason="STORE_UNAVAILABLE"
            ) from error

    # -- what is added to it ---------------------------------------------------------------

    async def count(
        self, key: SessionKey, counts: Sequence[tuple[int, int]], by: str, backend: str = ""
    ) -> None:
        check_key(key)
        check_name("counted_by", by)
        if any(index < 0 or tokens < 1 for index, tokens in counts):
            raise wrong("counts", "an index is 0 or more, and tokens are 1 or more")
        if counts:
            await (await self._store(key, backend)).count(key, counts, by)

    async def backlog(self, key: SessionKey, strategy: Strategy, backend: str = "") -> Backlog:
        check_key(key)
        rolling = strategies.Rolling(strategies.settled(strategy).summary_threshold)
        store = await self._store(key, backend)
        now = await store.standing(key)
        # A summary that is made meanwhile has another etag: this backlog is then refused.
        turns = await store.page(key, now.until - 1, rolling.limit())
        return rolling.backlog(now, turns)

    async def summarise(self, key: SessionKey, summary: Summary, backend: str = "") -> bool:
        check_key(key)
        if not summary.text.strip() or summary.until < 1:
            raise wrong("summary", "it has no text, or takes in no turn")
        if summary.etag:
            check_name("etag", summary.etag)
        text = summary.text.encode(errors="replace").decode().replace("\0", "")
        store = await self._store(key, backend)
        return await store.summarise(
            key, Summary(text, summary.until, summary.etag), self._new_id()
        )

    # -- all there is ----------------------------------------------------------------------

    async def sessions(
        self, tenant: str, agent: str, page_size: int = 0, page_token: str = ""
    ) -> SessionPage:
        check_name("tenant", tenant)
        check_name("agent", agent)
        return await self._records.sessions(tenant, agent, page_limit(page_size), page_token)

    async def export(
        self, tenant: str, principal: str, page_size: int = 0, page_token: str = ""
    ) -> RecordPage:
        check_name("tenant", tenant)
        check_name("principal", principal)
        return await self._records.export(tenant, principal, page_limit(page_size), page_token)

    async def erase(self, tenant: str, principal: str) -> Erased:
        check_name("tenant", tenant)
        check_name("principal", principal)
        return await self._records.erase(tenant, principal, self._new_id())

    async def sweep(self) -> None:
        """Remove what is over, where somebody has been since the start."""
        await sweep_all(
            "conversations", [(kind, each.sweep) for kind, each in self._places.opened()]
        )
        await self._places.close_unused()

    # -- where -----------------------------------------------------------------------------

    async def _store(self, key: SessionKey, backend: str) -> ConversationStore:
        """The one that is named, or that of the agent's file; else the one that has the
        session, and for a new one the default."""
        if name := backend or self._places.of(key.agent):
            return await self._places.store(name)
        names = self._places.names(key.agent)
        for name in names if len(names) > 1 else ():
            store = await self._places.store(name)
            if (await store.standing(key)).total:
                return store
        return await self._places.store(DEFAULT)


_PATIENCE = 3.0  # seconds: whoever checks wants to know how it is now
_NOBODY = SessionKey("-", "-", "-")


def _check(messages: Sequence[Message], run_id: str, details: Details) -> None:
    if run_id:
        check_name("run_id", run_id)
    if not messages:
        raise wrong("messages", "there is none: send at least one")
    check_principal(details.principal)
    if details.tokens and len(details.tokens) != len(messages):
        raise wrong("tokens", f"{len(messages)} messages have {len(messages)} counts, or none")
    if any(tokens < 0 for tokens in details.tokens):
        raise wrong("tokens", "a count is 0 or more")
    if details.tokens or details.counted_by:
        check_name("counted_by", details.counted_by)
    if details.ttl is not None and not 0 <= details.ttl <= _LONGEST:
        raise wrong("ttl_seconds", f"expected 0 to {_LONGEST:.0f} seconds")


_LONGEST = 100 * 365 * 86400.0
