"""Tools as the mesh sees them, whatever they are made of."""

from dataclasses import dataclass, field
from enum import Enum

from servers.domain.chat import Json, ToolSpec


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool that can be called by name."""

    spec: ToolSpec
    kind: str = "internal"  # internal | mcp | webhook | rag | grpc | agent
    idempotent: bool = False  # calling it twice with the same arguments does no harm
    timeout: float = 30.0  # seconds

    @property
    def name(self) -> str:
        return self.spec.name


class Outcome(Enum):
    """How a tool call ended."""

    OK = "ok"
    ERROR = "error"  # the tool failed, was not found or refused its arguments
    TIMEOUT = "timeout"
    UNKNOWN = "unknown"  # its process stopped, or the way to it broke; it was not repeated


@dataclass(frozen=True, slots=True)
class ToolRequest:
    """One call. `idempotency_key` is the same when a call is repeated after a crash."""

    name: str
    arguments: str  # JSON text
    idempotency_key: str = ""
    timeout: float | None = None  # seconds; None: the tool's own
    max_result_tokens: int | None = None
    context: Json = field(default_factory=dict)  # agent and run, for logs and limits


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What came back. An error is a result too: the model reads it and may repair its call."""

    content: str
    outcome: Outcome = Outcome.OK
    truncated_tokens: int = 0  # how much was cut off to fit the result budget
    duration: float = 0.0  # seconds

    @property
    def is_error(self) -> bool:
        return self.outcome is not Outcome.OK
