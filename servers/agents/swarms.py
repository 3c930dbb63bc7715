"""What of a plan depends on agents alone, and how those of a swarm are put together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from servers.agents.manifest import Agent
from servers.agents.patterns.ports import Member
from servers.agents.patterns.swarm import PREFIX
from servers.agents.prompts import Prompt
from servers.agents.runs.means import Means
from servers.domain.chat import ToolSpec
from servers.domain.runs import Run
from servers.kernel.errors import NotReady

_LONGEST = 64 - len(PREFIX)  # characters of a name: those of a tool are bounded


@dataclass(frozen=True, slots=True)
class Blueprint:
    agent: Agent
    means: Means
    tools: tuple[ToolSpec, ...]
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Swarm:
    """The agent itself, then those to whom it may hand over."""

    blueprints: Sequence[Blueprint]

    def means(self) -> Means:
        first, *others = self.blueprints
        if not others:
            return first.means
        means = {each.agent.name: replace(each.means, agent=each.agent.name) for each in others}
        return replace(first.means, members=means)

    def members(self, run: Run) -> tuple[Member, ...]:
        """As they are in a run. Raises as their prompts do."""
        return tuple(
            Member(
                each.agent.name,
                introduction(self.blueprints[0].agent, each.agent),
                each.prompt.render(run.context, run.began),
                each.tools,
                each.agent.spec.orchestration.max_iterations,
            )
            for each in self.blueprints
        )

    def check(self) -> None:
        """Raise what is wrong with the names of those who hand over to one another."""
        for says in self._wrong():
            agent = self.blueprints[0].agent.name
            raise NotReady(f"agent {agent!r}: {says}", reason="AGENT_NOT_READY", agent=agent)

    def _wrong(self) -> Iterator[str]:
        names = [each.agent.name for each in self.blueprints]
        for name in names:
            if len(name) > _LONGEST:
                yield f"{name!r} is longer than {_LONGEST}: the name of a swarm's agent can't be"
        for each in self.blueprints:
            for tool in each.tools:
                if tool.name in {PREFIX + name for name in names}:
                    yield f"the tool {tool.name!r} of {each.agent.name!r} is named as a hand-over"


def introduction(by: Agent, agent: Agent) -> str:
    """What an agent is for: as the one says that works with it, else as it says itself."""
    for tool in by.spec.tools:
        if tool.type == "agent" and tool.sub_agent == agent.name and tool.description:
            return tool.description
    identity = agent.spec.identity
    return identity.description or identity.role or identity.display_name
