"""kind: Agent."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal, Self

from pydantic import model_validator

from servers.agents.manifest.guardrails import Guardrails, wrong_rules
from servers.agents.manifest.later import LATER
from servers.agents.manifest.memory import (
    AgentMemory,
    ConversationalMemory,
    EpisodicMemory,
    Knowledge,
)
from servers.agents.manifest.model import ModelPolicy
from servers.agents.manifest.orchestration import Orchestration
from servers.agents.manifest.semantic import SemanticMemory
from servers.agents.manifest.spellings import respell
from servers.agents.manifest.tools import AgentTool
from servers.domain.chat import Json, ModelRef
from servers.domain.runs import Durability, OnDisconnect
from servers.kernel.fields import FreeJson
from servers.kernel.later import Later
from servers.kernel.manifest import Manifest, Strict
from servers.kernel.paths import Path, Wrong
from servers.kernel.spelling import Spelling


class Identity(Strict):
    display_name: str = ""
    description: str = ""
    avatar: str = ""
    role: str = ""
    personality: str = ""


class Prompts(Strict):
    """Jinja2 templates."""

    system: str = ""
    context: str = ""
    templates: dict[str, str] = {}  # noqa: RUF012  # pydantic copies defaults
    variables: FreeJson = {}  # noqa: RUF012


class Permissions(Strict):
    allowed_actions: tuple[str, ...] = ()
    denied_actions: tuple[str, ...] = ()
    filesystem: FreeJson = {}  # noqa: RUF012
    network: FreeJson = {}  # noqa: RUF012
    execution: FreeJson = {}  # noqa: RUF012


_LEADS = {
    "supervisor": "a supervisor works through",
    "swarm": "a swarm hands the conversation over to",
}


class AgentSpec(Strict):
    identity: Identity = Identity()
    model: ModelPolicy
    prompts: Prompts = Prompts()
    orchestration: Orchestration = Orchestration()
    tools: tuple[AgentTool, ...] = ()
    memory: AgentMemory = AgentMemory()
    knowledge: Knowledge | None = None
    guardrails: Guardrails = Guardrails()
    permissions: Permissions = Permissions()
    output_schema: FreeJson = {}  # noqa: RUF012
    concurrency: Literal["queue", "reject", "replace"] = "queue"
    durability: Literal["none", "exit", "step"] = "step"
    on_disconnect: Literal["cancel", "continue"] = "cancel"

    @model_validator(mode="after")
    def _roles_exist(self) -> Self:
        known = {*self.model.roles, "default"}
        for role, name in self.orchestration.role_map.items():
            if name not in known:
                raise ValueError(
                    f"orchestration.role_map sends {role!r} to {name!r}, which model.roles "
                    f"does not have; known are {', '.join(sorted(known))}"
                )
        return self

    @model_validator(mode="after")
    def _tools_differ(self) -> Self:
        twice = [name for name, n in Counter(t.name for t in self.tools).items() if n > 1]
        if twice:
            raise ValueError(f"the tool {twice[0]!r} is listed twice")
        return self

    @model_validator(mode="after")
    def _leads_somebody(self) -> Self:
        leads = _LEADS.get(self.orchestration.pattern)
        if leads and not any(tool.type == "agent" for tool in self.tools):
            raise ValueError(f"{leads} other agents: list them as tools of type agent")
        return self


class Agent(Manifest):
    """A declared agent. The runtime reads `spec`, and the methods below for what it means."""

    later: ClassVar[Sequence[Later]] = LATER

    kind: Literal["Agent"]
    spec: AgentSpec

    @classmethod
    def respell(cls, spelling: Spelling) -> None:
        respell(spelling)

    def inconsistencies(self) -> Iterator[Wrong]:
        yield from wrong_rules(self.spec.guardrails, self.spec.model.roles)

    def with_defaults(self, **defaults: object) -> Self:
        """With the runtime's `defaults` where its orchestration is silent; None is none.
        `canonical` stays as it is."""
        orchestration = self.spec.orchestration
        silent = defaults.keys() - orchestration.model_fields_set
        update = {key: defaults[key] for key in silent if defaults[key] is not None}
        if not update:
            return self
        filled = orchestration.model_copy(update=update)
        filled.model_fields_set.difference_update(update)
        said = "orchestration" in self.spec.model_fields_set
        spec = self.spec.model_copy(update={"orchestration": filled})
        if not said:
            spec.model_fields_set.discard("orchestration")
        return self.model_copy(update={"spec": spec})

    @property
    def name(self) -> str:
        return self.metadata.name

    def models(self, role: str = "") -> tuple[ModelRef, ...]:
        """The candidates for a role, best first: `role_map`, `roles`, `default`, `primary`."""
        return tuple(choice.ref for choice in self.spec.model.choices(self._mapped(role)))

    def strategy(self, role: str = "") -> str:
        """How they are ranked; empty where that is left to the ProviderConfig."""
        return self.spec.model.strategy(self._mapped(role))

    @property
    def tools(self) -> tuple[AgentTool, ...]:
        """What its model may call: of a supervisor nothing but the agents that it leads, of a
        swarm all but them, as it hands over to them instead."""
        pattern = self.spec.orchestration.pattern
        unless = {"supervisor": False, "swarm": True}.get(pattern)
        return tuple(tool for tool in self.spec.tools if (tool.type == "agent") is not unless)

    def pipelines(self) -> Iterator[tuple[Path, str]]:
        """The RAG pipelines that it names, and where."""
        if self.spec.knowledge:
            yield ("spec", "knowledge", "pipeline"), self.spec.knowledge.pipeline
        for index, tool in enumerate(self.spec.tools):
            if tool.type == "rag":
                key = "pipeline" if tool.pipeline else "name"
                yield ("spec", "tools", index, key), tool.looked_up

    @property
    def conversation(self) -> ConversationalMemory | None:
        """What is kept between runs; None for an agent without memory."""
        return self.spec.memory.conversational

    @property
    def semantic(self) -> SemanticMemory | None:
        """What is remembered by its meaning; None for an agent that does not."""
        return self.spec.memory.semantic

    @property
    def episodes(self) -> EpisodicMemory | None:
        """What is kept of what happens; None where nothing is."""
        return self.spec.memory.episodic

    @property
    def output_schema(self) -> Json | None:
        """What its answers fit; None where they may be any text."""
        return self.spec.output_schema or None

    @property
    def durability(self) -> Durability:
        return Durability(self.spec.durability)

    @property
    def on_disconnect(self) -> OnDisconnect:
        return OnDisconnect(self.spec.on_disconnect)

    def _mapped(self, role: str) -> str:
        return self.spec.orchestration.role_map.get(role, role)
