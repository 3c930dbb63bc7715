"""The events of a run's log: what it did, in its order."""

from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from servers.domain.chat import Finish, Message, ModelUsage
from servers.domain.runs import Ask, Decision, Direction, Failure, Run, RunState
from servers.domain.sources import Source
from servers.domain.tools import Outcome


@dataclass(frozen=True, slots=True)
class StateChanged:
    state: RunState
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of what the model says. The answer is what the last model call said."""

    text: str
    model_call: int = 1  # which model call of the run, from 1
    node: str = ""  # the branch it belongs to; empty: the run itself


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    text: str
    model_call: int = 1
    node: str = ""


@dataclass(frozen=True, slots=True)
class ModelReplied:
    """A model call that ended: the whole message, and what it used."""

    model_call: int
    message: Message
    finish: Finish
    duration: float = 0.0  # seconds
    node: str = ""


@dataclass(frozen=True, slots=True)
class ToolCalled:
    """Written before the tool is called; for a tool that isn't idempotent, durably so."""

    call_id: str  # unique in the run; run id and call id make the idempotency key
    name: str
    arguments: str
    model_call_id: str = ""  # the id the model gave the call
    node: str = ""


@dataclass(frozen=True, slots=True)
class ToolReturned:
    call_id: str
    name: str
    content: str
    outcome: Outcome = Outcome.OK
    truncated_tokens: int = 0
    duration: float = 0.0


class BranchKind(Enum):
    """What a part of a run is."""

    STAGE = "stage"  # of a pipeline
    STEP = "step"  # of a plan
    BRANCH = "branch"  # of a fan-out
    HANDOFF = "handoff"  # another agent takes the conversation over


@dataclass(frozen=True, slots=True)
class BranchStarted:
    """A part of the run begins. `node` names it in the run; its steps carry that name."""

    node: str
    parent: str  # node of the part it belongs to; empty: the run itself
    kind: BranchKind
    name: str  # for people: the stage, the step, the agent
    input: str = ""  # what it was given to do


@dataclass(frozen=True, slots=True)
class BranchEnded:
    node: str
    failure: Failure | None = None


@dataclass(frozen=True, slots=True)
class SubRunStarted:
    """A tool call is the run of another agent, with a log of its own."""

    call_id: str
    run_id: str
    agent: str


@dataclass(frozen=True, slots=True)
class Asked:
    """The run needs something from outside before it goes on with a tool call."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Decided:
    """What the run was waiting for has come."""

    decision: Decision
    principal: str = ""  # who decided


@dataclass(frozen=True, slots=True)
class Guarded:
    """A guardrail applied. Never holds the text."""

    rule: str
    direction: Direction
    action: str  # redact | block | warn
    count: int = 1
    call_id: str = ""  # of the tool call it looked at


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
class KnowledgeFound:
    """Passages were looked up: for the run's question, or by a tool call. No sources: nothing
    was found, or nobody could be asked, of which a notice tells.

    `text` is what the prompt says of those for the question. It is for the run's own log: a run
    that goes on after a wait or a crash shows the same to its models. Services don't tell it.
    """

    pipeline: str
    sources: tuple[Source, ...]
    call_id: str = ""
    text: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RecalledMemory:
    id: str
    collection: str
    kind: str
    similarity: float  # to the run's question


@dataclass(frozen=True, slots=True)
class MemoriesRecalled:
    """Memories were looked for that bear on the run's question. None, and `text`: as of
    `KnowledgeFound`."""

    memories: tuple[RecalledMemory, ...]
    text: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class RecalledEpisode:
    id: str
    run_id: str  # in which it happened; empty: in none


@dataclass(frozen=True, slots=True)
class EpisodesRecalled:
    """What happened before was looked up, the newest first. None, and `text`: as of
    `KnowledgeFound`."""

    episodes: tuple[RecalledEpisode, ...]
    text: str = field(default="", compare=False, repr=False)


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
    | BranchStarted
    | BranchEnded
    | SubRunStarted
    | Asked
    | Decided
    | Guarded
    | UsageReported
    | Noticed
    | KnowledgeFound
    | MemoriesRecalled
    | EpisodesRecalled
    | Restarted
    | Completed
)


@dataclass(frozen=True, slots=True)
class RunEvent:
    run_id: str
    sequence: int  # from 1, growing; jumps after a restart
    time: float  # seconds since the epoch
    payload: Payload
