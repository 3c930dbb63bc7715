"""Which agents there are: from files, for every tenant, and from the API, for its own.

A file's agent goes before one of the same name from the API, and can't be changed through
it. An agent whose file became faulty goes on as it was, and its record says so.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from servers.agents.catalogue.changes import merged, with_secrets
from servers.agents.catalogue.declare import Declaring
from servers.agents.catalogue.entries import (
    Entry,
    compare_etag,
    from_files,
    name_in,
    nearest_names,
    record_of,
    stored_entry,
)
from servers.agents.catalogue.files import Declared
from servers.agents.catalogue.teams import Find
from servers.agents.manifest import Agent
from servers.agents.ports import AgentStore, StoredAgent
from servers.domain.agents import AgentPage, AgentRecord
from servers.domain.chat import Json
from servers.kernel.errors import (
    AlreadyExists,
    AstromeshError,
    InvalidInput,
    NotFound,
    NotReady,
    Violation,
)
from servers.kernel.manifest import invalid
from servers.kernel.paging import fitting, page_limit, position, token
from servers.kernel.yaml_text import REASON, Document

_CACHED = 1000  # parsed agents from the API
_SOUND_FOR = 5.0  # seconds


class Catalogue:
    """`check` raises what would keep an agent from running, such as a tool that isn't there.
    It is given what finds the other agents of the tenant."""

    def __init__(
        self,
        store: AgentStore,
        declaring: Declaring,
        check: Callable[[Agent, Find], Awaitable[None]],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._declaring = declaring
        self._check = check
        self._now = now
        self._files: dict[str, Entry] = {}
        self._parsed: OrderedDict[tuple[str, str], Entry] = OrderedDict()
        self._sound: dict[int, tuple[Agent, float]] = {}  # the agent too: ids are reused
        self._writes = 0

    # -- files -----------------------------------------------------------------------------

    def take_files(self, declared: Sequence[Declared]) -> None:
        """Make these the agents of the files. Runs that have begun keep what they have."""
        self._files = from_files(self._files, declared, self._now())
        # Those of the API are held against the files again: what they need may be gone.
        self._writes += 1
        self._parsed.clear()

    # -- reading ---------------------------------------------------------------------------

    async def runnable(self, tenant: str, name: str) -> Agent:
        """Raises NotFound, or NotReady (AGENT_NOT_READY) with what is wrong with the agent."""
        entry = await self._entry(tenant, name)
        if entry.agent is None:
            raise NotReady(
                f"agent {name!r} can't run: {entry.reason}", reason="AGENT_NOT_READY", agent=name
            )
        return entry.agent

    def finder(self, tenant: str) -> Find:
        """Finds the agents of a tenant by name."""
        return partial(self.runnable, tenant)

    async def get(self, tenant: str, name: str) -> AgentRecord:
        return await self._record(tenant, await self._entry(tenant, name))

    async def list(self, tenant: str, page_size: int = 0, page_token: str = "") -> AgentPage:
        """By name."""
        limit, scope = page_limit(page_size), ("agents", tenant)
        after = position(scope, page_token, str)[0] if page_token else ""
        stored = await self._store.list(tenant, after, limit + 1)
        entries = {each.name: self._from_store(each) for each in stored}
        entries |= {name: entry for name, entry in self._files.items() if name > after}
        names = sorted(entries)
        records = [await self._record(tenant, entries[name]) for name in names[: limit + 1]]
        page, more = fitting(records, limit)
        return AgentPage(tuple(page), token(scope, page[-1].name) if more else "")

    # -- changing --------------------------------------------------------------------------

    async def create(self, tenant: str, manifest: Json, validate_only: bool = False) -> AgentRecord:
        agent = await self._declared(tenant, dict(manifest), {})
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
        name = name_in(manifest)
        stored = await self._changeable(tenant, name)
        if stored is None:
            if not allow_missing:
                raise await self._unknown(tenant, name)
            return await self.create(tenant, manifest, validate_only)
        compare_etag(self._from_store(stored), etag)
        whole = merged(stored.manifest, manifest, fields)
        agent = await self._declared(tenant, whole, stored.manifest)
        return await self._put(tenant, agent, stored, validate_only)

    async def delete(
        self, tenant: str, name: str, etag: str = "", validate_only: bool = False
    ) -> None:
        stored = await self._changeable(tenant, name)
        if stored is None:
            raise await self._unknown(tenant, name)
        compare_etag(self._from_store(stored), etag)
        if not validate_only:
            await self._store.delete(tenant, name, stored.revision)
            self._forget(tenant, name)

    async def _declared(self, tenant: str, manifest: dict[str, Any], stored: Json) -> Agent:
        """Sound in itself, and with everything it needs."""
        if wrong := with_secrets(manifest, stored):
            raise invalid(Document(manifest), wrong)
        agent = self._declaring.from_api(manifest)
        try:
            await self._check(agent, self.finder(tenant))
        except NotReady as error:
            found = error.violations or (Violation("spec", error.message),)
            raise InvalidInput(error.message, reason=REASON, violations=found) from error
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
        return await self._record(tenant, stored_entry(stored, agent))

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

    async def _entry(self, tenant: str, name: str) -> Entry:
        if entry := self._files.get(name):
            return entry
        # Of what others may change only the parsing is spared.
        if not self._store.shared and (entry := self._parsed.get((tenant, name))):
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

    def _from_store(self, stored: StoredAgent) -> Entry:
        known = self._parsed.get((stored.tenant, stored.name))
        # One that was deleted and made anew has its revision again, at another time.
        if known and (known.revision, known.updated_at) == (stored.revision, stored.updated_at):
            return known
        try:
            return stored_entry(stored, self._declaring.from_api(stored.manifest))
        except InvalidInput as error:  # stored by another version, or a provider went away
            return stored_entry(stored, None, error.message)

    def _forget(self, tenant: str, name: str) -> None:
        self._writes += 1
        self._parsed.pop((tenant, name), None)

    async def _record(self, tenant: str, entry: Entry) -> AgentRecord:
        if entry.agent is None or self._known_sound(entry.agent):
            return record_of(entry)
        try:
            await self._check(entry.agent, self.finder(tenant))
        except AstromeshError as error:
            return record_of(entry, error.message)
        if not any(tool.type == "agent" for tool in entry.agent.spec.tools):  # those may change
            self._sound[id(entry.agent)] = (entry.agent, self._now())
        return record_of(entry)

    def _known_sound(self, agent: Agent) -> bool:
        """Whether it was found to be just now: lists are asked for often."""
        if len(self._sound) > _CACHED:
            self._sound.clear()
        known = self._sound.get(id(agent))
        return known is not None and self._now() - known[1] < _SOUND_FOR

    async def _unknown(self, tenant: str, name: str) -> NotFound:
        stored = await self._store.list(tenant, "", _CACHED)
        near = nearest_names(name, [*self._files, *(each.name for each in stored)])
        return NotFound(f"there is no agent {name!r}{near}", reason="AGENT_NOT_FOUND", agent=name)
