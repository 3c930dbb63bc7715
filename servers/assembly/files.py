"""The folders of agents and pipelines while the mesh runs: read again after every change, and
told to the services of this process."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TypeAlias, TypeVar

import structlog

from servers.agents.catalogue.entries import Entry, from_files
from servers.agents.catalogue.files import SUFFIXES as AGENT_FILES
from servers.agents.catalogue.files import Declared
from servers.assembly.keys import KeyVariables
from servers.assembly.reloads import REMOVED, TAKEN, count, outcomes
from servers.config import MeshConfig
from servers.kernel.telemetry import span
from servers.kernel.watching import watching
from servers.rag.catalogue import Users
from servers.rag.declared import SUFFIXES as PIPELINE_FILES
from servers.rag.declared import DeclaredPipeline

TakeAgents: TypeAlias = Callable[[Sequence[Declared]], None]
# Is told which agents name each, too, and gives the pipelines that there are then.
TakePipelines: TypeAlias = Callable[
    [Sequence[DeclaredPipeline], Users], Awaitable[Sequence[DeclaredPipeline]]
]

T = TypeVar("T")
_log = structlog.stdlib.get_logger("astromesh.agents")


class Files:
    """Pipelines are read before the agents that name them: both may come at once. A pipeline
    whose file is gone goes on as long as agents name it."""

    def __init__(self, config: MeshConfig, now: Callable[[], float]) -> None:
        self._config, self._now = config, now
        self._declared: Sequence[Declared] = config.agents
        self._pipelines: Sequence[DeclaredPipeline] = config.pipelines
        self._agents = from_files({}, config.agents, now())  # what runs
        self._running: Sequence[DeclaredPipeline] = config.pipelines
        self._known: Collection[str] = _names(config.pipelines)
        self._take_agents: list[TakeAgents] = []
        self._take_pipelines: TakePipelines | None = None
        self.declaring = config.declaring_with(lambda: self._known)
        self.keys = KeyVariables(config.router, config.runtime)
        self._add_keys()

    def tell_agents(self, take: TakeAgents) -> None:
        self._take_agents.append(take)

    def tell_pipelines(self, take: TakePipelines) -> None:
        self._take_pipelines = take

    def watched(self) -> AbstractAsyncContextManager[None]:
        """Until it is left."""
        config = self._config
        folders = [config.agents_dir] if config.reads_agents else []
        folders += [config.pipelines_dir] if config.reads_pipelines else []
        if not folders:
            return nullcontext()
        return watching(folders, AGENT_FILES + PIPELINE_FILES, self.read_again)

    async def read_again(self) -> None:
        with span("reload files") as traced:
            pipelines, agents = self._running, self._agents
            await self._read_again()
            await self._tell()
            if self._take_pipelines:
                count("pipeline", _of_pipelines(pipelines, self._running), traced)
            if self._take_agents:
                found = _of_agents(agents, self._agents)
                count("agent", found, traced)
                _log_agents(found)

    async def _read_again(self) -> None:
        config = self._config
        if config.reads_pipelines:
            read = config.read_pipelines
            self._pipelines = await _read(config.pipelines_dir, read, self._pipelines)
            # Which of those that are gone go on is known when the agents are.
            self._known = _names(self._pipelines) | _names(p for p in self._running if p.pipeline)
        if config.reads_agents:
            again = partial(config.read_agents, self.declaring)
            self._declared = await _read(config.agents_dir, again, self._declared)
            self._agents = from_files(self._agents, self._declared, self._now())
        self._add_keys()

    async def _tell(self) -> None:
        if self._take_pipelines:
            self._running = await self._take_pipelines(self._pipelines, self._users())
            self._known = _names(self._running)
        for take in self._take_agents:
            take(self._declared)
        # Where nothing runs them they are read for what they name.
        event = "agent not taken over" if self._take_agents else "agent not read"
        for each in self._declared:
            if not each.agent:
                _log.warning(event, agent=each.name, reason=each.reason)

    def _users(self) -> Users:
        users = defaultdict[str, list[str]](list)
        for agent in (entry.agent for entry in self._agents.values() if entry.agent):
            for name in {name for _, name in agent.pipelines()}:
                users[name].append(agent.name)
        return users

    def _add_keys(self) -> None:
        agents = [entry.agent for entry in self._agents.values() if entry.agent]
        self.keys.add(agents, [each.pipeline for each in self._pipelines if each.pipeline])


async def _read(folder: Path, read: Callable[[], Sequence[T]], before: Sequence[T]) -> Sequence[T]:
    """What the folder declares; where it was taken away, what it did before."""
    try:
        # In a thread: reading and validating a hundred files would hold up the loop.
        if found := await asyncio.to_thread(read):
            return found
        if not before or await asyncio.to_thread(folder.is_dir):
            return found
        why = "the folder is gone"
    except OSError as error:
        why = error.strerror or str(error)
    _log.warning("files not read again", folder=folder.name, error=why)
    return before


def _names(pipelines: Iterable[DeclaredPipeline]) -> frozenset[str]:
    return frozenset(each.name for each in pipelines)


def _of_pipelines(
    before: Sequence[DeclaredPipeline], now: Sequence[DeclaredPipeline]
) -> Mapping[str, frozenset[str]]:
    old = {each.name: each.pipeline for each in before}
    new = {each.name: each.pipeline for each in now}
    return outcomes(old, new, [each.name for each in now if each.reason])


def _of_agents(
    before: Mapping[str, Entry], now: Mapping[str, Entry]
) -> Mapping[str, frozenset[str]]:
    old = {name: each.agent for name, each in before.items()}
    new = {name: each.agent for name, each in now.items()}
    return outcomes(old, new, [name for name, each in now.items() if each.reason])


def _log_agents(found: Mapping[str, frozenset[str]]) -> None:
    if gone := found[REMOVED]:
        _log.info("agents removed", agents=sorted(gone))
    if taken := found[TAKEN]:
        _log.info("agents taken over", agents=sorted(taken))
