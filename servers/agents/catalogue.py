"""Which agents there are: from files, for every tenant, and from the API, for its own.

A file's agent goes before one of the same name from the API, and can't be changed through
it. An agent whose file became faulty goes on as it was, and its record says so.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import orjson

from servers.agents.catalogue_ports import AgentStore, StoredAgent
from servers.agents.changes import merged, with_secrets
from servers.agents.declare import Declaring
from servers.agents.files import Declared
from servers.agents.manifest import Agent
from servers.domain.agents import AgentPage, AgentRecord
from servers.domain.chat import Json
from servers.kernel.errors import (
    AlreadyExists,
    AstromeshError,
    Conflict,
    InvalidInput,
    NotFound,
    NotReady,
    Violation,
)
from servers.kernel.manifest import API_VERSION, invalid
from servers.kernel.paging import page_limit, position, token
from servers.kernel.yaml_text import REASON, Document

_CACHED = 1000  # parsed agents from the API


@dataclass(frozen=True, slots=True)
class _Entry:
    """A declared agent, wherever it comes from."""

    name: str
    source: str
    agent: Agent | None
    reason: str = ""  # why there is no agent, or why a newer one was not taken over
    revision: int = 0
    created_at: float = 0.0
    updated_at: float = 0.0

    @property
    def etag(self) -> str:
        tree = self.agent.canonical() if self.agent else {"reason": self.reason}
        body = orjson.dumps([self.revision, tree], option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(body).hexdigest()[:20]


class Catalogue:
    """`check` raises what would keep an agent from running, such as a tool that isn't there."""

    def __init__(
        self,
        store: AgentStore,
        declaring: Declaring,
        check: Callable[[Agent], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._declaring = declaring
        self._check = check
        self._now = now
        self._files: dict[str, _Entry] = {}
        self._parsed: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._writes = 0

    # -- files -----------------------------------------------------------------------------

    def take_files(self, declared: Sequence[Declared]) -> None:
        """Make these the agents of the files. Runs that have begun keep what they have."""
        found = {each.name: self._from_file(each) for each in declared if each.agent}
        for each in (each for each in declared if not each.agent):
            kept = [old for old in self._files.values() if _continues(old, each)]
            for old in kept:
                found.setdefault(old.name, replace(old, reason=each.reason))
            if not kept:
                found.setdefault(each.name, self._from_file(each))
        self._files = dict(sorted(found.items()))

    def _from_file(self, declared: Declared) -> _Entry:
        now, old = self._now(), self._files.get(declared.name)
        source = f"file:{declared.origin}"
        if old and old.agent == declared.agent and old.source == source:
            return replace(
                old, reason=declared.reason
            )  # the same object: what is built on it stays
        created = old.created_at if old else now
        return _Entry(declared.name, source, declared.agent, declared.reason, 0, created, now)

    # -- reading ---------------------------------------------------------------------------

    async def runnable(self, tenant: str, name: str) -> Agent:
        """Raises NotFound, or NotReady (AGENT_NOT_READY) with what is wrong with the agent."""
        entry = await self._entry(tenant, name)
        if entry.agent is None:
            raise NotReady(
                f"agent {name!r} can't run: {entry.reason}", reason="AGENT_NOT_READY", agent=name
            )
        return entry.agent

    async def get(self, tenant: str, name: str) -> AgentRecord:
        return await self._record(await self._entry(tenant, name))

    async def list(self, tenant: str, page_size: int = 0, page_token: str = "") -> AgentPage:
        """By name."""
        limit, scope = page_limit(page_size), ("agents", tenant)
        after = position(scope, page_token, str)[0] if page_token else ""
        stored = await self._store.list(tenant, after, limit + 1)
        entries = {each.name: self._from_store(each) for each in stored}
        entries |= {name: entry for name, entry in self._files.items() if name > after}
        names = sorted(entries)
        shown = names[:limit]
        records = [await self._record(entries[name]) for name in shown]
        more = token(scope, shown[-1]) if len(names) > limit else ""
        return AgentPage(tuple(records), more)

    # -- changing --------------------------------------------------------------------------

    async def create(self, tenant: str, manifest: Json, validate_only: bool = False) -> AgentRecord:
        agent = await self._declared(dict(manifest), {})
        if agent.name in self._files or await self._store.get(tenant, agent.name):
            raise AlreadyExists(f"there is an agent {agent.name!r} already", agent=agent.name)
        return await self._put(tenant, agent, None, validate_only)

    async def update(
        self,
        tenant: str,
        manifest: Json,
        *,
        fields: Sequence[str] = (),
        etag: str = "",
        allow_missing: bool = False,
        validate_only: bool = False,
    ) -> AgentRecord:
        name = _name_in(manifest)
        stored = await self._changeable(tenant, name)
        if stored is None:
            if not allow_missing:
                raise await self._unknown(tenant, name)
            return await self.create(tenant, manifest, validate_only)
        _compare(self._from_store(stored), etag)
        agent = await self._declared(merged(stored.manifest, manifest, fields), stored.manifest)
        return await self._put(tenant, agent, stored, validate_only)

    async def delete(
        self, tenant: str, name: str, etag: str = "", validate_only: bool = False
    ) -> None:
        stored = await self._changeable(tenant, name)
        if stored is None:
            raise await self._unknown(tenant, name)
        _compare(self._from_store(stored), etag)
        if not validate_only:
            await self._store.delete(tenant, name, stored.revision)
            self._forget(tenant, name)

    async def _declared(self, manifest: dict[str, Any], stored: Json) -> Agent:
        """Sound in itself, and with everything it needs."""
        if wrong := with_secrets(manifest, stored):
            raise invalid(Document(manifest), wrong)
        agent = self._declaring.from_api(manifest)
        try:
            await self._check(agent)
        except NotReady as error:
            raise InvalidInput(
                error.message, reason=REASON, violations=(Violation("spec", error.message),)
            ) from error
        return agent

    async def _put(
        self, tenant: str, agent: Agent, old: StoredAgent | None, validate_only: bool
    ) -> AgentRecord:
        now = self._now()
        stored = StoredAgent(
            tenant,
            agent.name,
            agent.canonical(),
            old.revision + 1 if old else 1,
            old.created_at if old else now,
            now,
        )
        if not validate_only:
            await self._store.put(stored)
            self._forget(tenant, agent.name)
        return await self._record(_entry(stored, agent))

    async def _changeable(self, tenant: str, name: str) -> StoredAgent | None:
        if file := self._files.get(name):
            where = file.source.removeprefix("file:")
            raise NotReady(
                f"agent {name!r} is declared in {where}; change the file instead",
                reason="AGENT_FROM_FILE",
                agent=name,
                file=where,
            )
        return await self._store.get(tenant, name)

    # -- entries ---------------------------------------------------------------------------

    async def _entry(self, tenant: str, name: str) -> _Entry:
        if entry := self._files.get(name) or self._parsed.get((tenant, name)):
            return entry
        writes = self._writes
        stored = await self._store.get(tenant, name)
        if stored is None:
            raise await self._unknown(tenant, name)
        entry = self._from_store(stored)
        if writes == self._writes:  # nobody changed it while it was read
            self._parsed[(tenant, name)] = entry
            if len(self._parsed) > _CACHED:
                self._parsed.popitem(last=False)
        return entry

    def _from_store(self, stored: StoredAgent) -> _Entry:
        known = self._parsed.get((stored.tenant, stored.name))
        if known and known.revision == stored.revision:
            return known
        try:
            return _entry(stored, self._declaring.from_api(stored.manifest))
        except InvalidInput as error:  # stored by another version, or a provider went away
            return _entry(stored, None, error.message)

    def _forget(self, tenant: str, name: str) -> None:
        self._writes += 1
        self._parsed.pop((tenant, name), None)

    async def _record(self, entry: _Entry) -> AgentRecord:
        ready, reason = entry.agent is not None, entry.reason
        if entry.agent:
            try:
                await self._check(entry.agent)
            except AstromeshError as error:
                ready, reason = False, error.message
        return AgentRecord(
            name=entry.name,
            version=entry.agent.metadata.version if entry.agent else "",
            manifest=entry.agent.public() if entry.agent else _bare(entry.name),
            etag=entry.etag,
            ready=ready,
            reason=reason,
            source=entry.source,
            created_at=entry.created_at,
            updated_at=entry.updated_at,
        )

    async def _unknown(self, tenant: str, name: str) -> NotFound:
        stored = await self._store.list(tenant, "", _CACHED)
        near = _nearest(name, [*self._files, *(each.name for each in stored)])
        return NotFound(f"there is no agent {name!r}{near}", reason="AGENT_NOT_FOUND", agent=name)


def _continues(old: _Entry, faulty: Declared) -> bool:
    """Whether the running agent is what the faulty document was before."""
    if old.agent is None or old.source != f"file:{faulty.origin}":
        return False
    return faulty.name in (old.name, faulty.origin.partition(".")[0])


def _entry(stored: StoredAgent, agent: Agent | None, reason: str = "") -> _Entry:
    return _Entry(
        stored.name, "api", agent, reason, stored.revision, stored.created_at, stored.updated_at
    )


def _compare(entry: _Entry, etag: str) -> None:
    if etag and etag != entry.etag:
        raise Conflict(
            f"agent {entry.name!r} has changed since you read it; read it again, then retry",
            reason="ETAG_MISMATCH",
            agent=entry.name,
        )


def _name_in(manifest: Json) -> str:
    metadata = manifest.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    if not isinstance(name, str) or not name:
        raise InvalidInput(
            "metadata.name is missing",
            reason=REASON,
            violations=(Violation("metadata.name", "is missing"),),
        )
    return name


def _bare(name: str) -> Json:
    """What can be shown of an agent that could not be read."""
    return {"api_version": API_VERSION, "kind": "Agent", "metadata": {"name": name}}


def _nearest(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=3)
    return f"; did you mean {', '.join(repr(each) for each in close)}?" if close else ""
