"""spec.tools: what an agent can do besides talk."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from servers.kernel.fields import Count, Flag, FreeJson, FunctionPath, Seconds, ToolName
from servers.kernel.manifest import Strict

# Types of tools that the tools service does not know.
OWN_TOOLS = frozenset({"agent", "client", "timer", "rag"})


class RateLimit(Strict):
    max_calls: Count
    window_seconds: Seconds


class Approval(Strict):
    """Who may approve a call, and whether he may change its arguments."""

    principals: tuple[str, ...] = ()
    editable: Flag | None = None


class AgentTool(Strict):
    """A tool by name, and what this agent wants otherwise than the tool itself says."""

    name: ToolName
    type: Literal["internal", "mcp", "webhook", "rag", "grpc", "agent", "client", "timer"] = (
        "internal"
    )
    function: FunctionPath = ""
    description: str = ""
    parameters: FreeJson = {}  # noqa: RUF012  # pydantic copies defaults
    rate_limit: RateLimit | None = None
    max_result_tokens: Count | None = None
    timeout: Seconds | None = None
    idempotent: Flag | None = None
    requires_approval: Flag | None = None
    approval: Approval | None = None
    agent: str = ""
    pipeline: str = ""
    top_k: Annotated[Count, Field(le=1000)] | None = None

    @model_validator(mode="after")
    def _fits_its_type(self) -> Self:
        if self.approval and not self.requires_approval:
            raise ValueError("approval says who approves: set requires_approval: true, too")
        if self.requires_approval and self.type == "client":
            raise ValueError(
                "the client itself decides whether to call its tool: remove requires_approval"
            )
        if self.type == "client" and not self.description:
            raise ValueError("a client's tool needs a description: the model reads it")
        if self.type == "timer" and self.parameters:
            raise ValueError("a timer has parameters of its own: remove the key")
        if self.type == "agent" and (self.rate_limit or self.function):
            raise ValueError("a tool of type agent has neither function nor rate_limit")
        if self.agent and self.type != "agent":
            raise ValueError("names another agent: set type: agent, or remove the key agent")
        if (self.pipeline or self.top_k) and self.type != "rag":
            raise ValueError("pipeline and top_k are of tools of type rag: set type: rag")
        if self.type == "rag" and (self.rate_limit or self.function):
            raise ValueError("a tool of type rag has neither function nor rate_limit")
        return self

    @property
    def looked_up(self) -> str:
        """The pipeline that a tool of type rag asks."""
        return self.pipeline or self.name

    @property
    def sub_agent(self) -> str:
        """The agent that a tool of type agent runs."""
        return self.agent or self.name
