"""Keeps what happened to agents. Satisfies `domain.services.Episodes`."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import blake2b
from time import time
from typing import Any, Final
from uuid import uuid4

from servers.domain.episodes import (
    Episode,
    EpisodeFilter,
    EpisodePage,
    EpisodeScope,
    EpisodeType,
    EpisodicSelection,
    Note,
    RunTold,
)
from servers.domain.memory import SessionKey
from servers.kernel.errors import NotFound, Unavailable
from servers.kernel.paging import fitting, page_limit, position, token
from servers.memory.episode_checks import (
    check_filter,
    check_note,
    check_one,
    check_selection,
    check_told,
)
from servers.memory.episode_ports import EpisodeStore, Numbered
from servers.memory.names import check_name, check_principal, wrong
from servers.memory.places import DEFAULT, Places
from servers.memory.sweeping import sweep_all

_PATIENCE: Final = 3.0  # seconds: whoever checks wants to know how it is now
_LAST: Final = 2**63 - 1
_NOBODY: Final = EpisodeFilter("-", "-")


def _unlike_any() -> str:
    return uuid4().hex


class EpisodicMemory:
    def __init__(
        self,
        places: Places[EpisodeStore],
        now: Callable[[], float] = time,
        new_id: Callable[[], str] = _unlike_any,
    ) -> None:
        self._places, self._now, self._new_id = places, now, new_id

    async def record(self, told: RunTold) -> int:
        check_told(told)
        name = told.backend or self._places.of(told.key.agent) or DEFAULT
        return await (await self._store(name)).record(told)

    async def add(self, note: Note) -> Episode:
        check_note(note)
        said = note.episode
        check_principal(said.principal)
        name, run = await self._about(note)
        now = self._now()
        ends = now + note.ttl if note.ttl else None
        if note.ttl is None and run:
            ends = run.expires_at
        episode = replace(
            said,
            id=_id_of(said.principal, note.request_id) if note.request_id else self._new_id(),
            session=said.session or (run.session if run else ""),
            created_at=now,
            expires_at=ends,
        )
        return replace(await (await self._store(name)).add(note.tenant, episode), backend=name)

    async def list(
        self, asked: EpisodeFilter, page_size: int = 0, page_token: str = "", backend: str = ""
    ) -> EpisodePage:
        check_filter(asked)
        limit = page_limit(page_size)
        scope = ("episodes", asked, backend)
        at = position(scope, page_token, float, str, int) if page_token else None
        found = await self._newest(asked, at, limit + 1, self._names(asked.agent, backend))
        page, more = fitting(found, limit)
        last = ""
        if more:
            seq, end = page[-1]
            last = token(scope, end.created_at, end.backend, seq)
        return EpisodePage(tuple(episode for _, episode in page), last)

    async def get(self, tenant: str, agent: str, id: str, backend: str = "") -> Episode:
        check_one(tenant, agent, id)
        for name in self._names(agent, backend):
            if found := await (await self._store(name)).get(tenant, agent, id):
                return replace(found, backend=name)
        raise _missing(agent, id)

    async def remove(self, tenant: str, agent: str, id: str, backend: str = "") -> None:
        check_one(tenant, agent, id)
        for name in self._names(agent, backend):
            if await (await self._store(name)).remove(tenant, agent, id):
                return
        raise _missing(agent, id)

    async def delete(
        self, asked: EpisodeFilter, everything: bool = False, backend: str = ""
    ) -> int:
        check_filter(asked)
        if not (everything or asked.says_something):
            raise wrong("all", "say which episodes, or that all of the agent's are meant")
        names = [backend] if backend else self._places.names(asked.agent)
        stores = [await self._store(name) for name in names]  # all of them can be reached
        return sum([await store.delete(asked) for store in stores])

    async def recent(
        self, key: SessionKey, selection: EpisodicSelection, principal: str = ""
    ) -> Sequence[Episode]:
        """What a model is shown, newest first."""
        check_selection(selection)
        asked = EpisodeFilter(key.tenant, key.agent, types=selection.types)
        if selection.scope is not EpisodeScope.AGENT:
            asked = replace(asked, principal=principal)
        if selection.scope is EpisodeScope.SESSION:
            asked = replace(asked, session=key.session)
        return (await self.list(asked, selection.max_results, "", selection.backend)).episodes

    async def check(self, backend: str) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await (await self._store(backend)).page(_NOBODY, None, 1)
        except TimeoutError as error:
            raise Unavailable(
                f"the backend {backend!r} doesn't answer", reason="STORE_UNAVAILABLE"
            ) from error

    # -- of one principal, and all ---------------------------------------------------------

    async def export(
        self, tenant: str, principal: str, place: str, after: int, limit: int
    ) -> Sequence[Numbered]:
        """His in all backends from `place` on, in the order of writing in each."""
        check_name("tenant", tenant)
        check_name("principal", principal)
        names = list(self._places.names())
        found: list[Numbered] = []
        seen: list[EpisodeStore] = []
        for name in names[names.index(place) if place in names else 0 :]:
            store = await self._store(name)  # half of an answer would be taken for the whole
            if len(found) < limit and not any(store is each for each in seen):
                seen.append(store)
                since = after if name == place else -1
                some = await store.of_principal(tenant, principal, since, limit - len(found))
                found += [(seq, replace(each, backend=name)) for seq, each in some]
        return found

    async def erase(self, tenant: str, principal: str) -> int:
        check_name("tenant", tenant)
        check_name("principal", principal)
        stores = [await self._store(name) for name in self._places.names()]
        return sum([await store.erase(tenant, principal) for store in stores])

    async def sweep(self) -> None:
        """Remove what is over, where somebody has been since the start."""
        await sweep_all("episodes", [(kind, each.sweep) for kind, each in self._places.opened()])
        await self._places.close_unused()

    # -- where -----------------------------------------------------------------------------

    async def _store(self, name: str) -> EpisodeStore:
        return await self._places.store(name)

    def _names(self, agent: str, backend: str) -> Sequence[str]:
        """The one that is named, or that of the agent's file; else all of them."""
        name = backend or self._places.of(agent)
        return [name] if name else self._places.names(agent)

    async def _about(self, note: Note) -> tuple[str, Episode | None]:
        """Where the run is that a note is about, and its newest episode there; of a text on a run
        that is nowhere the place that the agent has, or the default."""
        names = self._names(note.episode.agent, note.backend)
        if note.episode.run_id:
            asked = EpisodeFilter(note.tenant, note.episode.agent, run_id=note.episode.run_id)
            found = await self._newest(asked, None, 1, names)
            if found:
                return found[0][1].backend, found[0][1]
        if note.episode.type is EpisodeType.FEEDBACK:
            raise _no_run(note.episode)
        return (names[0] if len(names) == 1 else DEFAULT), None

    async def _newest(
        self, asked: EpisodeFilter, at: Sequence[Any] | None, limit: int, names: Sequence[str]
    ) -> Sequence[Numbered]:
        """Of several backends, as if they were one; of one moment, in the order of their names.
        Two names may be one database: what was seen under the first is not seen again."""
        found: list[Numbered] = []
        seen: list[EpisodeStore] = []
        for name in sorted(names):
            store = await self._store(name)
            if any(store is each for each in seen):
                continue
            seen.append(store)
            before = None if at is None else (at[0], _bound(name, at))
            some = await store.page(asked, before, limit)
            found += [(seq, replace(each, backend=name)) for seq, each in some]
        found.sort(key=lambda each: each[1].backend)
        found.sort(key=lambda each: each[1].created_at, reverse=True)  # stable
        return found[:limit]


def _bound(name: str, at: Sequence[Any]) -> int:
    """Of what a backend has of the moment `at`, the numbers below have not been seen."""
    _, place, seq = at
    if name == place:
        return min(int(seq), _LAST)
    return 0 if name < place else _LAST


def _id_of(principal: str, request_id: str) -> str:
    """Each counts requests of his own. No name has a NUL in it."""
    return blake2b(f"{principal}\0{request_id}".encode(), digest_size=16).hexdigest()


def _no_run(said: Episode) -> NotFound:
    return NotFound(
        f"agent {said.agent!r} has no run {said.run_id!r} on record: feedback is on a run that has "
        "ended, of an agent with spec.memory.episodic",
        agent=said.agent,
        run_id=said.run_id,
    )


def _missing(agent: str, id: str) -> NotFound:
    return NotFound(
        f"agent {agent!r} has no episode {id!r}",
        reason="EPISODE_NOT_FOUND",
        agent=agent,
        episode=id,
    )
