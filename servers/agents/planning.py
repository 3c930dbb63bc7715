"""Turns a declared agent and a request into the plan of a run.

What depends on the agent alone (its models, tools and compiled prompts) is worked out once
and kept until the agent changes.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from servers.agents.manifest import Agent, AgentTool
from servers.agents.patterns.ports import Pattern
from servers.agents.prompts import Prompt
from servers.agents.runs.execution import Plan
from servers.agents.runs.steps import Means, Models, ToolLimits
from servers.domain.caller import Caller
from servers.domain.chat import ToolSpec
from servers.domain.memory import Strategy
from servers.domain.runs import OnDisconnect, Run, RunRequest
from servers.domain.services import Memory, Router, Tools
from servers.domain.tools import Tool
from servers.kernel.errors import NotFound, NotReady

DEFAULT_TIMEOUT = 300.0  # seconds
DEFAULT_ITERATIONS = 10
DEFAULT_TURNS = 20


@dataclass(frozen=True, slots=True)
class _Blueprint:
    """What of a plan depends on the agent alone."""

    agent: Agent
    means: Means
    tools: tuple[ToolSpec, ...]
    prompt: Prompt


class Planner:
    def __init__(
        self,
        router: Router,
        memory: Memory,
        tools: Tools,
        patterns: Mapping[str, Pattern],
        now: Callable[[], float],
    ) -> None:
        self._router = router
        self._memory = memory
        self._tools = tools
        self._patterns = patterns
        self._now = now
        self._blueprints: dict[tuple[str, str], _Blueprint] = {}

    async def plan(self, caller: Caller, agent: Agent, request: RunRequest) -> Plan:
        blueprint = await self._blueprint(caller.tenant, agent)
        spec = agent.spec
        orchestration = spec.orchestration
        conversational = spec.memory.conversational
        timeout = orchestration.timeout_seconds or DEFAULT_TIMEOUT
        return Plan(
            caller=caller,
            means=blueprint.means,
            pattern=self._patterns[orchestration.pattern or "react"],
            tools=blueprint.tools,
            max_iterations=orchestration.max_iterations or DEFAULT_ITERATIONS,
            timeout=timeout if request.deadline is None else min(timeout, request.deadline),
            concurrency=spec.concurrency or "queue",
            prompt=self._rendering(blueprint.prompt),
            memory=self._memory if conversational else None,
            strategy=_strategy(agent),
            on_disconnect=OnDisconnect(spec.on_disconnect or "cancel"),
        )

    async def check(self, agent: Agent) -> None:
        """Raise what would keep the agent from running: a tool that isn't there, mostly."""
        await self._draft(agent)

    async def _blueprint(self, tenant: str, agent: Agent) -> _Blueprint:
        key = (tenant, agent.metadata.name)
        known = self._blueprints.get(key)
        if known is None or known.agent is not agent:
            known = self._blueprints[key] = await self._draft(agent)
        return known

    async def _draft(self, agent: Agent) -> _Blueprint:
        declared = agent.spec.tools
        tools = await asyncio.gather(*(self._found(agent, each) for each in declared))
        pairs = list(zip(declared, tools, strict=True))
        means = Means(
            self._router,
            self._tools,
            _models(agent),
            {each.name: _limits(agent, each, tool) for each, tool in pairs},
        )
        return _Blueprint(
            agent, means, tuple(_offered(each, tool) for each, tool in pairs), Prompt(agent)
        )

    async def _found(self, agent: Agent, declared: AgentTool) -> Tool:
        try:
            return await self._tools.get(declared.name)
        except NotFound as missing:
            raise NotReady(
                f"agent {agent.metadata.name!r}: spec.tools: {missing.message}",
                reason="AGENT_NOT_READY",
                agent=agent.metadata.name,
            ) from missing

    def _rendering(self, prompt: Prompt) -> Callable[[Run], str]:
        return lambda run: prompt.render(run.context, self._now())


def _models(agent: Agent) -> dict[str, Models]:
    roles = {"default", *agent.spec.model.roles, *agent.spec.orchestration.role_map}
    return {role: Models(agent.models(role), agent.strategy(role)) for role in roles}


def _strategy(agent: Agent) -> Strategy:
    conversational = agent.spec.memory.conversational
    if conversational is None:
        return Strategy()
    return Strategy(
        conversational.strategy or "sliding_window", conversational.max_turns or DEFAULT_TURNS
    )


def _limits(agent: Agent, declared: AgentTool, tool: Tool) -> ToolLimits:
    return ToolLimits(
        idempotent=tool.idempotent if declared.idempotent is None else declared.idempotent,
        timeout=declared.timeout,
        max_result_tokens=declared.max_result_tokens
        or agent.spec.orchestration.max_tool_result_tokens,
        rate_limit=declared.rate_limit.model_dump() if declared.rate_limit else None,
    )


def _offered(declared: AgentTool, tool: Tool) -> ToolSpec:
    return ToolSpec(
        tool.name,
        declared.description or tool.spec.description,
        declared.parameters or tool.spec.parameters,
    )
