"""What a run works with: models, tools, and what an agent says of them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from servers.agents.guardrails import Rules
from servers.agents.runs.fitting import Fitting
from servers.domain.chat import Json, ModelRef
from servers.domain.services import Rag, Router, Tools


@dataclass(frozen=True, slots=True)
class Models:
    """Who answers in a role, and how they are ranked."""

    candidates: tuple[ModelRef, ...]
    strategy: str = ""


class ToolKind(Enum):
    """Who does what a tool call asks for."""

    SERVICE = "service"  # the tools service
    CLIENT = "client"  # whoever started the run
    TIMER = "timer"  # nobody: time passes
    AGENT = "agent"  # a run of another agent
    RAG = "rag"  # the RAG service


@dataclass(frozen=True, slots=True)
class Approval:
    """A person has to approve every call. Empty `principals`: any caller of the tenant may."""

    principals: tuple[str, ...] = ()
    editable: bool = False  # whether he may change the arguments


@dataclass(frozen=True, slots=True)
class ToolLimits:
    """What an agent says of a tool it may use."""

    idempotent: bool
    timeout: float | None = None
    max_result_tokens: int | None = None
    rate_limit: Json | None = None
    kind: ToolKind = ToolKind.SERVICE
    approval: Approval | None = None
    agent: str = ""  # of ToolKind.AGENT
    parameters: Json | None = None  # of AGENT and RAG, which no tools service checks
    pipeline: str = ""  # of ToolKind.RAG
    top_k: int | None = None  # likewise


@dataclass(frozen=True, slots=True)
class Means:
    """What a run works with."""

    router: Router
    tools: Tools
    models: Mapping[str, Models]  # by role; "default" is always there
    tool_limits: Mapping[str, ToolLimits]
    hedge: bool = False
    cache_ttl: float = 0.0  # seconds
    fitting: Fitting | None = None  # None: everything is shown as it is
    agent: str = ""  # whose they are, where it isn't the run's own
    members: "Mapping[str, Means]" = field(default_factory=dict)  # of agents it may hand over to
    rules: Rules = field(default_factory=Rules)
    rag: Rag | None = None

    def may_wait(self) -> bool:
        """Whether a run may come to something that it has to wait for."""
        own = any(
            each.approval or each.kind not in (ToolKind.SERVICE, ToolKind.AGENT, ToolKind.RAG)
            for each in self.tool_limits.values()
        )
        return own or any(each.may_wait() for each in self.members.values())
