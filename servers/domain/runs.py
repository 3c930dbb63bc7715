"""A run and the events of its log."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from servers.domain.chat import Finish, Json, Message, ModelUsage, Usage
from servers.domain.tools import Outcome


class RunState(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def terminal(self) -> bool:
        return self not in (RunState.QUEUED, RunState.RUNNING)


class StopReason(Enum):
    ANSWER = "answer"  # the model finished its answer
    MAX_ITERATIONS = "max_iterations"
    MAX_TOKENS = "max_tokens"  # the model's output limit cut the answer
    CONTENT_FILTER = "content_filter"  # the provider withheld the rest
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    ERROR = "error"


class Durability(Enum):
    """What is written when. See docs/runs.md."""

    NONE = "none"
    EXIT = "exit"
    STEP = "step"


class OnDisconnect(Enum):
    CANCEL = "cancel"
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as a value: what a failed run is stored with."""

    code: str  # the domain error's class name, e.g. "Unavailable"
    message: str
    reason: str = ""  # what programs branch on
    retry_after: float | None = None
    facts: Json = field(default_factory=dict)
    violations: tuple[tuple[str, str], ...] = ()  # what is violated, and how


@dataclass(frozen=True, slots=True)
class Run:
    id: str
    tenant: str
    agent: str
    agent_version: str
    session: str
    state: RunState
    query: str
    durability: Durability = Durability.STEP
    request_id: str = ""
    created_at: float = 0.0  # seconds since the epoch
    started_at: float | None = None
    ended_at: float | None = None
    stop_reason: StopReason | None = None
    answer: str = ""
    usage: tuple[ModelUsage, ...] = ()
    iterations: int = 0
    failure: Failure | None = None
    context: Json = field(default_factory=dict)
    attempt: int = 1  # how often the run was started; more than 1 after a crash

    @property
    def total(self) -> Usage:
        return sum((each.usage for each in self.usage), Usage())


@dataclass(frozen=True, slots=True)
class StateChanged:
    state: RunState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of what the model says. The answer is what the last model call said."""

    text: str
    model_call: int = 1  # which model call of the run, from 1


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str
    model_call: int = 1


@dataclass(frozen=True, slots=True)
class ModelReplied:
    """A model call that ended: the whole message, and what it used."""

    model_call: int
    message: Message
    finish: Finish
    duration: float = 0.0  # seconds


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """Written before the tool is called; for a tool that isn't idempotent, durably so."""

    call_id: str  # unique in the run; run id and call id make the idempotency key
    name: str
    arguments: str
    model_call_id: str = ""  # the id the model gave the call


@dataclass(frozen=True, slots=True)
class ToolReturned:
    call_id: str
    name: str
    content: str
    outcome: Outcome = Outcome.OK
    truncated_tokens: int = 0
    duration: float = 0.0


@dataclass(frozen=True, slots=True)
class UsageReported:
    """The run's usage so far, per model."""

    models: tuple[ModelUsage, ...]


@dataclass(frozen=True, slots=True)
class Noticed:
    """Something the caller should know that did not stop the run."""

    reason: str  # UPPER_SNAKE
    message: str


@dataclass(frozen=True, slots=True)
class Restarted:
    """The run goes on after its process stopped.

    Earlier events after `discard_after` are void: their model call is made again.
    """

    attempt: int
    discard_after: int


@dataclass(frozen=True, slots=True)
class Completed:
    """The end, whatever the outcome: `run.state` tells. Nothing follows."""

    run: Run


Payload: TypeAlias = (
    StateChanged
    | TextDelta
    | ReasoningDelta
    | ModelReplied
    | ToolCalled
    | ToolReturned
    | UsageReported
    | Noticed
    | Restarted
    | Completed
)


@dataclass(frozen=True, slots=True)
class RunEvent:
    run_id: str
    sequence: int  # from 1, growing; jumps after a restart
    time: float  # seconds since the epoch
    payload: Payload


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Work for an agent."""

    agent: str
    query: str
    session: str = ""  # empty: a session of its own
    request_id: str = ""  # the same id gives the same run
    context: Json = field(default_factory=dict)  # variables for the prompt templates
    durability: Durability | None = None  # None: the agent's
    deadline: float | None = None  # seconds from now; None: the agent's timeout alone


@dataclass(frozen=True, slots=True)
class RunFilter:
    agent: str = ""
    session: str = ""
    states: tuple[RunState, ...] = ()


@dataclass(frozen=True, slots=True)
class RunPage:
    runs: tuple[Run, ...]
    next_page_token: str = ""
