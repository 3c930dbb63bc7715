"""All that is kept of a tenant, over all backends: to list, to hand out and to forget."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from servers.domain.memory import Recorded, RecordPage, SessionInfo, SessionPage
from servers.kernel.paging import position, token
from servers.memory.places import Places
from servers.memory.ports import ConversationStore

T = TypeVar("T")


class Archive:
    """Raises Unavailable where a backend can't be reached: half an answer would be taken for
    a whole one."""

    def __init__(self, places: Places[ConversationStore]) -> None:
        self._places = places

    async def sessions(self, tenant: str, agent: str, limit: int, page_token: str) -> SessionPage:
        scope = ("sessions", tenant, agent)
        where, after = position(scope, page_token, str, str) if page_token else ("", "")

        async def some(store: ConversationStore, first: bool, most: int) -> Sequence[SessionInfo]:
            return await store.sessions(tenant, agent, after if first else "", most)

        found = await self._over_all(self._places.names(agent), where, some, limit + 1)
        page = [replace(info, backend=name) for name, info in found[:limit]]
        more = len(found) > limit
        last = token(scope, page[-1].backend, page[-1].key.session) if more else ""
        return SessionPage(tuple(page), last)

    async def export(self, tenant: str, principal: str, limit: int, page_token: str) -> RecordPage:
        scope = ("records", tenant, principal)
        where, *after = _position(scope, page_token)

        async def some(store: ConversationStore, first: bool, most: int) -> Sequence[Recorded]:
            since = (after[0], after[1], after[2]) if first else ("", "", -1)
            return await store.of_principal(tenant, principal, since, most)

        found = await self._over_all(self._places.names(), where, some, limit + 1)
        page = [replace(record, backend=name) for name, record in found[:limit]]
        last = ""
        if len(found) > limit:
            end = page[-1]
            last = token(scope, end.backend, end.key.agent, end.key.session, end.turn.index)
        return RecordPage(tuple(page), last)

    async def erase(self, tenant: str, principal: str, etag: str) -> int:
        stores = [await self._places.store(name) for name in self._places.names()]
        return sum([await store.erase(tenant, principal, etag) for store in stores])

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


def _position(scope: object, page_token: str) -> list[Any]:
    if not page_token:
        return ["", "", "", -1]
    return position(scope, page_token, str, str, str, int)
