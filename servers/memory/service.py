"""Keeps conversations and picks what a model sees of them. Satisfies `domain.services.Memory`."""

from collections.abc import Callable, Sequence
from time import time

from servers.domain.chat import Message
from servers.domain.memory import MemoryContext, SessionKey, Strategy, TurnPage
from servers.kernel.paging import page_limit, position, token
from servers.memory import strategies
from servers.memory.names import check_key, check_name, wrong
from servers.memory.ports import ConversationStore


class ConversationMemory:
    def __init__(self, store: ConversationStore, now: Callable[[], float] = time) -> None:
        self._store, self._now = store, now

    async def append(self, key: SessionKey, messages: Sequence[Message], run_id: str = "") -> int:
        check_key(key)
        if run_id:
            check_name("run_id", run_id)
        if not messages:
            raise wrong("messages", "there is none: send at least one")
        return await self._store.append(key, messages, run_id, self._now())

    async def turns(self, key: SessionKey, page_size: int = 0, page_token: str = "") -> TurnPage:
        check_key(key)
        limit = page_limit(page_size)
        after = position(key, page_token, int)[0] if page_token else -1
        found = await self._store.page(key, after, limit + 1)
        page = tuple(found[:limit])
        return TurnPage(page, token(key, page[-1].index) if len(found) > limit else "")

    async def clear(self, key: SessionKey) -> int:
        check_key(key)
        return await self._store.clear(key)

    async def context(self, key: SessionKey, strategy: Strategy) -> MemoryContext:
        check_key(key)
        most = strategies.settled(strategy).max_turns
        newest, total = await self._store.newest(key, most)
        return MemoryContext(strategies.presentable([turn.message for turn in newest]), total)
