"""A run: what is asked for, how it stands, what it waits for and how it ended."""

from dataclasses import dataclass, field
from enum import Enum

from servers.domain.chat import Json, ModelUsage, Usage
from servers.domain.sources import Source


class RunState(Enum):
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    BLOCKED = "blocked"  # a guardrail ended it
    WAITING_APPROVAL = "waiting_approval"  # for a person who decides
    WAITING_INPUT = "waiting_input"  # for the result of a tool that the client has
    WAITING_TIMER = "waiting_timer"
    WAITING_RUN = "waiting_run"  # for a sub-agent's run that waits itself

    @property
    def waiting(self) -> bool:
        """Nothing is to be done until something comes from outside: no process holds it."""
        return self in _WAITING

    @property
    def terminal(self) -> bool:
        return not self.waiting and self not in (RunState.QUEUED, RunState.RUNNING)


_WAITING = frozenset(
    {
        RunState.WAITING_APPROVAL,
        RunState.WAITING_INPUT,
        RunState.WAITING_TIMER,
        RunState.WAITING_RUN,
    }
)


class StopReason(Enum):
    ANSWER = "answer"  # the model finished its answer
    MAX_ITERATIONS = "max_iterations"
    MAX_TOKENS = "max_tokens"  # the model's output limit cut the answer
    CONTENT_FILTER = "content_filter"  # the provider withheld the rest
    DEADLINE = "deadline"
    CANCELLED = "cancelled"
    ERROR = "error"
    GUARDRAIL = "guardrail"


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


class AskKind(Enum):
    """What a run waits for."""

    APPROVAL = "approval"
    INPUT = "input"
    TIMER = "timer"
    RUN = "run"

    @property
    def state(self) -> RunState:
        """Of a run that waits for this and for nothing that is to be told first."""
        return RunState(f"waiting_{self.value}")


@dataclass(frozen=True, slots=True)
class Ask:
    """One thing that a run waits for: a decision on a tool call, or what the call gives."""

    call_id: str
    kind: AskKind
    tool: str
    arguments: str = ""  # the exact ones that are approved: JSON text
    editable: bool = False  # whether who approves may change them
    principals: tuple[str, ...] = ()  # who may decide; empty: everybody in the tenant
    until: float | None = None  # seconds since the epoch, of a timer
    run_id: str = ""  # of a sub-agent's run


class Verdict(Enum):
    """What was decided on an Ask."""

    APPROVE = "approve"
    REJECT = "reject"
    RESULT = "result"  # what the client's tool gave


@dataclass(frozen=True, slots=True)
class Decision:
    """An answer to an Ask. `arguments`: JSON text that replaces the model's, empty for those."""

    call_id: str
    verdict: Verdict
    reason: str = ""
    arguments: str = ""
    content: str = ""  # of Verdict.RESULT
    is_error: bool = False  # of Verdict.RESULT: the client's tool failed


class Direction(Enum):
    """Which way a text goes that a guardrail looks at."""

    INPUT = "input"
    OUTPUT = "output"
    TOOL_ARGUMENTS = "tool_arguments"
    TOOL_RESULT = "tool_result"


@dataclass(frozen=True, slots=True)
class Block:
    """Why a run ended BLOCKED. Never holds the text."""

    rule: str  # its type, e.g. "pii_detection"
    direction: Direction
    message: str  # for the caller, from the declaration


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
    parent: str = ""  # the run whose tool call this one is; empty for one that a caller started
    parent_call: str = ""  # and that call's id
    root: str = ""  # the first run of the tree; empty for that one itself
    depth: int = 0  # in the tree
    waiting: tuple[Ask, ...] = ()
    block: Block | None = None
    answered_by: str = ""  # the agent that had the last word, where it is another one
    webhook: str = ""  # the address that is told of the end
    agent_digest: str = ""  # of the declaration it began with
    principal: str = ""  # on whose behalf it works
    sources: tuple[Source, ...] = ()  # that its answer rests on, once it has ended

    @property
    def tree(self) -> str:
        """The id of the first run of the tree: what all of it spends is spent by that one."""
        return self.root or self.id

    @property
    def began(self) -> float:
        """When its work began; before that, when it was asked for. On record, so that a run that
        goes on is told the same time."""
        return self.created_at if self.started_at is None else self.started_at

    @property
    def total(self) -> Usage:
        return sum((each.usage for each in self.usage), Usage())


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
    webhook: str = ""  # tell this address of the end
    parent: "Parentage | None" = None  # of a sub-agent's run


@dataclass(frozen=True, slots=True)
class Parentage:
    """Whose tool call a run is. Only the mesh itself says so, never a caller."""

    run_id: str
    call_id: str
    root: str
    depth: int  # of the new run; the first run of a tree has 0


@dataclass(frozen=True, slots=True)
class RunFilter:
    agent: str = ""
    session: str = ""
    states: tuple[RunState, ...] = ()
    parent: str = ""  # sub-agents' runs of this run
    root: str = ""  # all runs of this tree
    principal: str = ""


@dataclass(frozen=True, slots=True)
class RunSelection:
    """Trees of runs, by what is said of the first run of each. What is empty selects all."""

    principal: str = ""
    session: str = ""
    agent: str = ""
    ended_before: float | None = None  # seconds since the epoch
    all: bool = False  # whoever says nothing else has to mean it

    def takes(self, first: Run) -> bool:
        before = self.ended_before
        return (
            self.principal in ("", first.principal)
            and self.session in ("", first.session)
            and self.agent in ("", first.agent)
            and (before is None or (first.ended_at is not None and first.ended_at < before))
        )


@dataclass(frozen=True, slots=True)
class Purged:
    """How many runs were deleted, and how many trees were left since they have not ended."""

    runs: int
    left: int = 0


@dataclass(frozen=True, slots=True)
class RunPage:
    runs: tuple[Run, ...]
    next_page_token: str = ""
