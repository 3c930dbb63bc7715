"""All that is kept of a tenant, over all backends: to list, to hand out and to forget."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

from servers.domain.episodes import Episode
from servers.domain.memory import Recorded, RecordPage, SessionInfo, SessionKey, SessionPage
from servers.domain.semantic import Erased
from servers.kernel.paging import fitting, position, token
from servers.memory.episodes import EpisodicMemory
from servers.memory.places import Places
from servers.memory.ports import ConversationStore
from servers.memory.semantic import VectorMemory

T = TypeVar("T")


class Archive:
    """Raises Unavailable where a backend can't be reached: half an answer would be taken for
    a whole one."""

    def __init__(
        self,
        places: Places[ConversationStore],
        episodes: EpisodicMemory,
        semantic: VectorMemory | None = None,
    ) -> None:
        self._places, self._episodes, self._semantic = places, episodes, semantic

    async def sessions(self, tenant: str, agent: str, limit: int, page_token: str) -> SessionPage:
        scope = ("sessions", tenant, agent)
        where, after = position(scope, page_token, str, str) if page_token else ("", "")

        async def some(store: ConversationStore, first: bool, most: int) -> Sequence[SessionInfo]:
            return await store.sessions(tenant, agent, after if first else "", most)

        found = await self._over_all(self._places.names(agent), where, some, limit + 1)
        first, more = fitting(found, limit)
        page = [replace(info, backend=name) for name, info in first]
        last = token(scope, page[-1].backend, page[-1].key.session) if more else ""
        return SessionPage(tuple(page), last)

    async def export(self, tenant: str, principal: str, limit: int, page_token: str) -> RecordPage:
        """Turns first, then memories, then episodes: the token says of which kind the last one
        was, and where it is."""
        scope = ("records", tenant, principal)
        kind, *after = _position(scope, page_token)
        found: list[_Placed] = []
        if kind == _TURNS:
            turns = await self._turns(tenant, principal, after, limit + 1)
            found += [(each, _place_of(each)) for each in turns]
        if kind != _EPISODES and len(found) <= limit and self._semantic:
            since = (after[0], after[1]) if kind == _MEMORIES else ("", "")
            left = limit + 1 - len(found)
            memories = await self._semantic.of_principal(tenant, principal, since, left)
            found += [(each, _place_of(each)) for each in memories]
        if len(found) <= limit:
            where, number = (after[0], after[3]) if kind == _EPISODES else ("", -1)
            left = limit + 1 - len(found)
            episodes = await self._episodes.export(tenant, principal, where, number, left)
            found += [_episode(tenant, seq, each) for seq, each in episodes]
        page, more = fitting(found, limit)
        last = token(scope, *page[-1][1]) if more else ""
        return RecordPage(tuple(record for record, _ in page), last)

    async def _turns(
        self, tenant: str, principal: str, after: Sequence[Any], limit: int
    ) -> list[Recorded]:
        async def some(store: ConversationStore, first: bool, most: int) -> Sequence[Recorded]:
            since = (after[1], after[2], after[3]) if first else ("", "", -1)
            return await store.of_principal(tenant, principal, since, most)

        found = await self._over_all(self._places.names(), after[0], some, limit)
        return [replace(record, backend=name) for name, record in found]

    async def erase(self, tenant: str, principal: str, etag: str) -> Erased:
        stores = [await self._places.store(name) for name in self._places.names()]
        # First, as it leaves a mark: what is on its way to memory is refused from then on.
        memories = await self._semantic.erase(tenant, principal) if self._semantic else 0
        turns = sum([await store.erase(tenant, principal, etag) for store in stores])
        return Erased(turns, memories, await self._episodes.erase(tenant, principal))

    async def _over_all(
        self,
        names: Sequence[str],
        where: str,
        some: Callable[[ConversationStore, bool, int], Awaitable[Sequence[T]]],
        limit: int,
    ) -> list[tuple[str, T]]:
        """Up to `limit` of what the backends have, from `where` on. Two of one name may be one
        database: what was seen in the first is left out in the second."""
        start = names.index(where) if where in names else 0
        found: list[tuple[str, T]] = []
        seen: list[ConversationStore] = []
        for name in names[start:]:
            store = await self._places.store(name)
            if len(found) < limit and not any(store is each for each in seen):
                more = await some(store, name == where, limit - len(found))
                found += [(name, each) for each in more]
                seen.append(store)
        return found


_TURNS, _MEMORIES, _EPISODES = "turns", "memories", "episodes"
# A record, and what a token says of where it is.
_Placed: TypeAlias = tuple[Recorded, tuple[str | int, ...]]


def _position(scope: object, page_token: str) -> list[Any]:
    """The kind of the last record, and where it is; all have the same form."""
    if not page_token:
        return [_TURNS, "", "", "", -1]
    return position(scope, page_token, str, str, str, str, int)


def _place_of(record: Recorded) -> tuple[str | int, ...]:
    if record.memory:
        return (_MEMORIES, record.backend, record.memory.id, "", -1)
    index = record.turn.index if record.turn else -1
    return (_TURNS, record.backend, record.key.agent, record.key.session, index)


def _episode(tenant: str, seq: int, episode: Episode) -> _Placed:
    key = SessionKey(tenant, episode.agent, episode.session)
    record = Recorded(key, backend=episode.backend, episode=episode)
    return record, (_EPISODES, episode.backend, "", "", seq)
