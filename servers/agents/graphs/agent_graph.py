"""What an agent may do: its models, tools and sub-agents, and the parts of its pattern."""

from collections.abc import Awaitable, Callable

from servers.agents.graphs.sketch import Sketch
from servers.agents.manifest import Agent, AgentTool
from servers.domain.agents import AgentRecord
from servers.kernel.errors import AstromeshError

Look = Callable[[str], Awaitable[AgentRecord]]  # raises NotFound
Find = Callable[[str], Awaitable[Agent]]

# What of the pattern is asked as a role of its own.
_ROLES = {
    "plan_and_execute": ("planner", "executor", "synthesizer"),
    "parallel_fan_out": ("planner", "executor", "synthesizer"),
    "supervisor": ("supervisor",),
}


async def agent_graph(name: str, look: Look, find: Find) -> Sketch:
    """Raises NotFound."""
    drawing = _Drawing(look, find)
    await look(name)
    await drawing.agent(name)
    return drawing.sketch


class _Drawing:
    def __init__(self, look: Look, find: Find) -> None:
        self.sketch = Sketch(across=True)
        self._look = look
        self._find = find
        self._agents: dict[str, str] = {}  # name -> node
        self._models: dict[tuple[str, str, str], str] = {}

    async def agent(self, name: str, caller: str = "", edge: str = "") -> None:
        """With all that it may do; each agent once, whoever calls it."""
        if name in self._agents:
            self.sketch.join(caller, self._agents[name], edge)
            return
        node = self._agents[name] = self.sketch.add("agent", name, caller, edge)
        if not node:
            return
        try:
            record = await self._look(name)
            self.sketch.change(node, problem=record.reason)
            agent = await self._find(name)
        except AstromeshError as error:
            self.sketch.change(node, problem=error.message)
            return
        self.sketch.change(node, state=agent.spec.orchestration.pattern)
        self._pattern(node, agent)
        for tool in agent.spec.tools:
            await self._tool(node, agent, tool)

    # -- models and parts ----------------------------------------------------------------------

    def _pattern(self, node: str, agent: Agent) -> None:
        orchestration = agent.spec.orchestration
        if orchestration.pattern == "pipeline":
            before = node
            for stage in orchestration.stages:
                before = self.sketch.add("stage", stage, before, "then" if before != node else "")
                self._asks(before, agent, stage, "")
        else:
            for role in _ROLES.get(orchestration.pattern, ("default",)):
                self._asks(node, agent, role, role)

    def _asks(self, node: str, agent: Agent, role: str, says: str) -> None:
        """The models of a role, the best first."""
        known = {*agent.spec.model.roles, *agent.spec.orchestration.role_map}
        models = agent.models(role if role in known else "")
        for position, model in enumerate(models):
            label = ", ".join(filter(None, (says, "else" if position else "")))
            key = model.provider, model.model, model.endpoint
            name = f"{model.provider}/{model.model}" if model.model else model.provider
            if key not in self._models:
                self._models[key] = self.sketch.add("model", name)
            self.sketch.join(node, self._models[key], label)

    # -- tools ---------------------------------------------------------------------------------

    async def _tool(self, node: str, agent: Agent, tool: AgentTool) -> None:
        swarm = agent.spec.orchestration.pattern == "swarm"
        if tool.type == "agent":
            said = "hands over to" if swarm else "asks"
            label = f"{said}, approved" if tool.requires_approval else said
            await self.agent(tool.sub_agent, node, label)
            return
        tool_node = self.sketch.add("tool", tool.name, node, "calls")
        state = "needs approval" if tool.requires_approval else ""
        problem = "" if tool in agent.tools else "a supervisor calls nothing but agents"
        kind = tool.type if tool.type != "internal" else ""
        self.sketch.change(tool_node, state=", ".join(filter(None, (kind, state))), problem=problem)
