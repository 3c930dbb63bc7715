"""Turns a declared agent and a request into the plan of a run.

What depends on the agent alone (its models, tools and compiled prompts) is worked out once
and kept until the agent changes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf

from servers.agents.catalogue.teams import Find, team
from servers.agents.guardrails import compiled
from servers.agents.manifest import Agent, AgentTool
from servers.agents.patterns.ports import Pattern, Shape, Stage
from servers.agents.prompts import Prompt
from servers.agents.runs.calls import delegating, timer
from servers.agents.runs.context import knowledge
from servers.agents.runs.context.recalling import Recalling
from servers.agents.runs.context.remembering import Remembering
from servers.agents.runs.context.summarising import Summaries
from servers.agents.runs.fitting import Fitting
from servers.agents.runs.guarding import checked
from servers.agents.runs.means import Approval, Means, Models, ToolKind, ToolLimits
from servers.agents.runs.memory.learning import Learning
from servers.agents.runs.memory.places import KnownPlaces
from servers.agents.runs.memory.telling import Telling
from servers.agents.runs.plan import Plan
from servers.agents.swarms import Blueprint, Swarm, introduction
from servers.domain.caller import Caller
from servers.domain.chat import Json, ToolSpec
from servers.domain.runs import Direction, Durability, Run, RunRequest
from servers.domain.services import Memory, Rag, Router, Tools
from servers.domain.tools import Tool
from servers.kernel.errors import NotFound, NotReady, Violation

_CACHED = 1000  # agents
_MOMENT = 0.05  # seconds
_ANYTHING: Json = {"type": "object"}
_KINDS = {
    "client": ToolKind.CLIENT,
    "timer": ToolKind.TIMER,
    "agent": ToolKind.AGENT,
    "rag": ToolKind.RAG,
}


class Planner:
    def __init__(
        self,
        router: Router,
        memory: Memory,
        tools: Tools,
        rag: Rag,
        patterns: Mapping[str, Pattern],
        now: Callable[[], float],
        summaries: Summaries,
        learning: Learning,
    ) -> None:
        self._router = router
        self._summaries = summaries
        self._learning = learning
        self._places = KnownPlaces(memory, now)
        self._memory = memory
        self._tools = tools
        self._rag = rag
        self._patterns = patterns
        self._fitting = Fitting(router, now)
        self._blueprints: OrderedDict[int, Blueprint] = OrderedDict()  # by id(agent)

    async def plan(self, caller: Caller, agent: Agent, request: RunRequest, find: Find) -> Plan:
        """`find` gives the other agents of the tenant."""
        blueprint, swarm = await self._team(agent, find)
        means = swarm.means()
        _check_durability(agent, request, means)
        await self._places.check(agent, to_run=True)
        spec = agent.spec
        orchestration, known = spec.orchestration, spec.knowledge
        timeout = orchestration.timeout_seconds
        return Plan(
            caller=caller,
            means=means,
            pattern=self._patterns[orchestration.pattern],
            tools=blueprint.tools,
            max_iterations=orchestration.max_iterations,
            timeout=min(timeout, _in_time(request.deadline)),
            concurrency=spec.concurrency,
            prompt=lambda run: blueprint.prompt.render(run.context, run.began),
            shape=lambda run: _shape(blueprint, swarm, run),
            memory=self._remembering(agent),
            recalling=self._recalling(agent),
            telling=self.telling(agent),
            on_disconnect=agent.on_disconnect,
            output_schema=agent.output_schema,
            knowledge=knowledge.Knowledge(self._rag, known.pipeline, known.top_k)
            if known
            else None,
            asked=await checked(blueprint.means.rules, request.query, Direction.INPUT),
        )

    async def check(self, agent: Agent, find: Find) -> None:
        """Raise what would keep the agent from running: a tool that isn't there, mostly."""
        await self._team(agent, find)
        await self._places.check(agent)

    async def _team(self, agent: Agent, find: Find) -> tuple[Blueprint, Swarm]:
        """What an agent works with, and those to whom it may hand over. Raises what is wrong
        with any of them."""
        if not any(tool.type == "agent" for tool in agent.spec.tools):
            own = await self._blueprint(agent)
            if agent.spec.orchestration.pattern != "swarm":
                return own, Swarm([own])
        own, members = await self._introduced(agent, find)
        if agent.spec.orchestration.pattern != "swarm":
            return own, Swarm([own])
        others = {each.name: each for each in members.values() if each.name != agent.name}
        swarm = Swarm([own, *[(await self._introduced(o, find))[0] for o in others.values()]])
        swarm.check()
        return own, swarm

    async def _introduced(self, agent: Agent, find: Find) -> tuple[Blueprint, Mapping[str, Agent]]:
        """With the agents that its tools name, which say themselves what they are for."""
        blueprint, members = await self._blueprint(agent), await team(agent, find)
        tools = tuple(_told(agent, spec, members) for spec in blueprint.tools)
        return replace(blueprint, tools=tools), members

    async def _blueprint(self, agent: Agent) -> Blueprint:
        known = self._blueprints.get(id(agent))
        if known is None or known.agent is not agent:
            known = self._blueprints[id(agent)] = await self._draft(agent)
            if len(self._blueprints) > _CACHED:
                self._blueprints.popitem(last=False)
        return known

    async def _draft(self, agent: Agent) -> Blueprint:
        declared = agent.tools
        tools = await asyncio.gather(*(self._found(agent, each) for each in declared))
        pairs = list(zip(declared, tools, strict=True))
        means = Means(
            self._router,
            self._tools,
            _models(agent),
            {each.name: _limits(agent, each, tool) for each, tool in pairs},
            hedge=bool(agent.spec.model.routing.hedge),
            cache_ttl=agent.spec.model.routing.cache_ttl or 0.0,
            rules=compiled(agent.spec.guardrails),
            fitting=self._fitting,
            rag=self._rag,
        )
        return Blueprint(
            agent, means, tuple(_offered(each, tool) for each, tool in pairs), Prompt(agent)
        )

    async def _found(self, agent: Agent, declared: AgentTool) -> Tool:
        if declared.type == "client":
            return Tool(ToolSpec(declared.name, declared.description, _ANYTHING), "client")
        if declared.type == "timer":
            spec = ToolSpec(declared.name, timer.DESCRIPTION, timer.PARAMETERS)
            return Tool(spec, "timer", idempotent=True)
        if declared.type == "agent":  # idempotent: asked again, it is the same run
            spec = ToolSpec(declared.name, "", delegating.PARAMETERS)
            return Tool(spec, "agent", idempotent=True)
        if declared.type == "rag":
            spec = ToolSpec(declared.name, _looks_up(declared), knowledge.PARAMETERS)
            return Tool(spec, "rag", idempotent=True)
        try:
            return await self._tools.get(declared.name)
        except NotFound as missing:
            place = f"spec.tools[{agent.spec.tools.index(declared)}].name"
            raise NotReady(
                f"agent {agent.name!r}: {place}: {missing.message}",
                reason="AGENT_NOT_READY",
                violations=(Violation(place, missing.message),),
                agent=agent.name,
            ) from missing

    def _remembering(self, agent: Agent) -> Remembering | None:
        kept = agent.conversation
        if kept is None:
            return None
        models, counter = _models(agent), agent.models()[0]
        return Remembering(
            self._memory,
            self._router,
            self._summaries,
            kept.shown(f"{counter.provider}/{counter.model}"),
            kept.place(agent.name),
            kept.ttl or 0.0,
            counter,
            models.get("summarizer", models["default"]),
        )

    def _recalling(self, agent: Agent) -> Recalling | None:
        said, kept = agent.semantic, agent.episodes
        shown = kept.selection if kept else None
        if kept and shown:
            shown = replace(shown, backend=kept.place(agent.name))
        if said is None:
            return Recalling(self._memory, None, None, shown) if shown else None
        learning = None if said.remember.policy == "none" else self._learning
        return Recalling(self._memory, said.query(agent.name), learning, shown)

    def telling(self, agent: Agent) -> Telling | None:
        """Where what happens in its runs is kept."""
        if (kept := agent.episodes) is None:
            return None
        return Telling(self._memory.episodes, kept.place(agent.name), kept.ttl or 0.0)


def _shape(blueprint: Blueprint, swarm: Swarm, run: Run) -> Shape:
    said = blueprint.agent.spec.orchestration
    told = blueprint.prompt.stages(run.context, run.began)
    return Shape(
        tuple(Stage(name, told.get(name, "")) for name in said.stages),
        said.max_parallel,
        said.max_replans,
        said.max_handoffs,
        swarm.members(run) if said.pattern == "swarm" else (),
    )


def _in_time(deadline: float | None) -> float:
    """A moment before the caller gives up, so that he still hears what there was by then."""
    return inf if deadline is None else deadline - min(_MOMENT, deadline / 10)


def _models(agent: Agent) -> dict[str, Models]:
    roles = {"default", *agent.spec.model.roles, *agent.spec.orchestration.role_map}
    return {role: Models(agent.models(role), agent.strategy(role)) for role in roles}


def _limits(agent: Agent, declared: AgentTool, tool: Tool) -> ToolLimits:
    return ToolLimits(
        idempotent=tool.idempotent if declared.idempotent is None else declared.idempotent,
        timeout=declared.timeout,
        max_result_tokens=declared.max_result_tokens
        or agent.spec.orchestration.max_tool_result_tokens,
        rate_limit=declared.rate_limit.model_dump() if declared.rate_limit else None,
        kind=_KINDS.get(declared.type, ToolKind.SERVICE),
        approval=_approval(declared),
        agent=declared.sub_agent if declared.type == "agent" else "",
        parameters=declared.parameters or None,
        pipeline=declared.looked_up if declared.type == "rag" else "",
        top_k=declared.top_k,
    )


def _approval(declared: AgentTool) -> Approval | None:
    if not declared.requires_approval:
        return None
    asked = declared.approval
    return Approval(asked.principals, bool(asked.editable)) if asked else Approval()


def _check_durability(agent: Agent, request: RunRequest, means: Means) -> None:
    durability = request.durability or agent.durability
    if durability is Durability.NONE and means.may_wait():
        raise NotReady(
            f"agent {agent.name!r} has tools that make a run wait, which one of durability "
            "'none' can't: ask for 'step'",
            reason="NOT_DURABLE",
            agent=agent.name,
        )


def _told(agent: Agent, spec: ToolSpec, members: Mapping[str, Agent]) -> ToolSpec:
    """A sub-agent says itself what it is for, where the tool doesn't."""
    if spec.description or spec.name not in members:
        return spec
    said = introduction(agent, members[spec.name]) or f"Ask the agent {spec.name!r}."
    return ToolSpec(spec.name, said, spec.parameters)


def _looks_up(declared: AgentTool) -> str:
    return f"Find passages in the documents of {declared.looked_up!r}."


def _offered(declared: AgentTool, tool: Tool) -> ToolSpec:
    return ToolSpec(
        tool.name,
        declared.description or tool.spec.description,
        declared.parameters or tool.spec.parameters,
    )
