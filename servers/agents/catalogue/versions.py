"""The declarations that runs began with. A run that goes on does so on its own, whatever has
become of the agent meanwhile."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import orjson

from servers.agents.catalogue.catalogue import Catalogue
from servers.agents.catalogue.changes import with_secrets
from servers.agents.catalogue.declare import Declaring
from servers.agents.catalogue.teams import Find
from servers.agents.manifest import Agent
from servers.agents.ports import AgentVersions
from servers.domain.runs import Run
from servers.kernel.errors import AstromeshError, NotReady

_CACHED = 1000  # agents
_KEPT_FOR = 600.0  # seconds until the store is asked again, which forgets what no run needs


class Versions:
    def __init__(
        self,
        store: AgentVersions,
        catalogue: Catalogue,
        declaring: Declaring,
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._catalogue = catalogue
        self._declaring = declaring
        self._now = now
        self._known: OrderedDict[int, tuple[Agent, str, float]] = OrderedDict()  # by id(agent)

    async def keep(self, agent: Agent) -> str:
        """Put the declaration on record, without its secrets; returns what it is found by."""
        known = self._known.get(id(agent))
        if known and known[0] is agent and self._now() - known[2] < _KEPT_FOR:
            return known[1]
        digest = digest_of(agent)
        await self._store.keep(digest, agent.public())
        self._known[id(agent)] = agent, digest, self._now()
        if len(self._known) > _CACHED:
            self._known.popitem(last=False)
        return digest

    def finder(self, tenant: str) -> Find:
        """Finds other agents, as they are now: what they are asked from now on is new."""
        return self._catalogue.finder(tenant)

    async def of(self, run: Run) -> Agent:
        """What the run began with. Raises what keeps it from going on."""
        try:
            current = await self._catalogue.runnable(run.tenant, run.agent)
        except AstromeshError:
            if not run.agent_digest or await self._store.kept(run.agent_digest) is None:
                raise
            return await self._kept(run, None)
        if run.agent_digest in ("", digest_of(current)):
            return current
        return await self._kept(run, current)

    async def _kept(self, run: Run, current: Agent | None) -> Agent:
        kept = await self._store.kept(run.agent_digest)
        if kept is None:
            raise _changed(run, "what it began with is not on record any more")
        manifest = dict(kept)
        if with_secrets(manifest, current.canonical() if current else {}):
            raise _changed(run, "what it began with had a key of its own, which is not kept")
        try:
            return self._declaring.from_record(manifest)
        except AstromeshError as error:
            raise _changed(run, error.message) from error


def digest_of(agent: Agent) -> str:
    body = orjson.dumps(agent.public(), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(body).hexdigest()[:32]


def _changed(run: Run, why: str) -> NotReady:
    return NotReady(
        f"agent {run.agent!r} has changed since the run began with its version "
        f"{run.agent_version!r}, and the run can't finish on that one: {why}",
        reason="AGENT_CHANGED",
        agent=run.agent,
    )
