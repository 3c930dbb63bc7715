"""Which agents an agent may call, and what is wrong with them: unknown ones, circles, depth."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from servers.agents.manifest import Agent
from servers.kernel.errors import AstromeshError, NotReady, Violation

MOST_DEPTH = 8  # of sub-agents below the agent that a caller runs

Find = Callable[[str], Awaitable[Agent]]  # raises NotFound, or NotReady with what is wrong


async def team(agent: Agent, find: Find) -> Mapping[str, Agent]:
    """The agents that an agent's tools name, by tool. Raises NotReady (AGENT_NOT_READY) where
    one can't be had, or where the ways down from here are too long or lead back.

    That others further down can't be had keeps those from running that name them. The members
    of a swarm may hand over in circles: of those it is only asked who they are.
    """
    walk = _Walk(agent, find)
    members = {}
    for tool, name, place in _named(agent):
        members[tool] = await walk.found(name, place)
    if agent.spec.orchestration.pattern != "swarm":
        await walk.height(agent, (agent.name,), "")
    return members


@dataclass(slots=True)
class _Walk:
    """Down from one agent, each other one once."""

    top: Agent
    find: Find
    heights: dict[str, int] = field(default_factory=dict)

    async def found(self, name: str, place: str) -> Agent:
        if name == self.top.name:
            return self.top  # as it is about to be
        try:
            return await self.find(name)
        except AstromeshError as error:
            raise _not_ready(self.top, place, error.message) from error

    async def height(self, agent: Agent, path: tuple[str, ...], place: str) -> int:
        """How many levels of sub-agents are below an agent. `place` is where the top agent
        names the first one of the path."""
        if agent.name in self.heights:
            return self.heights[agent.name]
        highest = 0
        for _, name, here in _named(agent):
            where = place or here
            if name in path:
                raise _not_ready(self.top, where, _circle(path, name))
            deeper = 1
            if len(path) <= MOST_DEPTH:
                deeper += await self._below(name, path, where)
            if len(path) - 1 + deeper > MOST_DEPTH:
                chain = " -> ".join((*path, name))
                says = f"{chain} goes on for more than {MOST_DEPTH} levels of sub-agents"
                raise _not_ready(self.top, where, says)
            highest = max(highest, deeper)
        self.heights[agent.name] = highest
        return highest

    async def _below(self, name: str, path: tuple[str, ...], place: str) -> int:
        try:
            agent = await self.find(name)
        except AstromeshError:  # nothing is below it
            return 0
        if agent.spec.orchestration.pattern == "swarm":
            return 0
        return await self.height(agent, (*path, name), place)


def _named(agent: Agent) -> list[tuple[str, str, str]]:
    """Tool, agent, and where that stands."""
    return [
        (tool.name, tool.sub_agent, f"spec.tools[{index}].{'agent' if tool.agent else 'name'}")
        for index, tool in enumerate(agent.spec.tools)
        if tool.type == "agent"
    ]


def _circle(path: tuple[str, ...], name: str) -> str:
    if path[-1] == name:
        return f"agent {name!r} would call itself"
    circle = " -> ".join((*path[path.index(name) :], name))
    return f"{circle} is a circle of agents that call one another"


def _not_ready(agent: Agent, place: str, says: str) -> NotReady:
    return NotReady(
        f"agent {agent.name!r}: {place}: {says}",
        reason="AGENT_NOT_READY",
        violations=(Violation(place, says),),
        agent=agent.name,
    )


def too_deep(name: str) -> NotReady:
    """At work: where an agent has changed since its caller began."""
    return NotReady(
        f"more than {MOST_DEPTH} levels of sub-agents; {name!r} was not started",
        reason="AGENT_NOT_READY",
        agent=name,
    )
