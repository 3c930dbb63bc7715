"""What a run is made of, how it begins, and how it ends. Values only."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from servers.agents.guardrails import Checked
from servers.agents.patterns.ports import Pattern, Shape
from servers.agents.runs.context.knowledge import Knowledge
from servers.agents.runs.context.recalling import Recalling
from servers.agents.runs.context.remembering import Remembering
from servers.agents.runs.means import Means
from servers.agents.runs.memory.telling import Telling
from servers.domain.caller import Caller
from servers.domain.chat import Json, ToolSpec
from servers.domain.run_events import RunEvent
from servers.domain.runs import Block, Failure, OnDisconnect, Run, RunState, StopReason


@dataclass(frozen=True, slots=True)
class Plan:
    """All that a run is made of, settled before it starts."""

    caller: Caller
    means: Means
    pattern: Pattern
    tools: tuple[ToolSpec, ...]
    max_iterations: int
    timeout: float  # seconds from now
    concurrency: str
    prompt: Callable[[Run], str]  # renders the system prompt
    shape: Callable[[Run], Shape]  # what there is to say of its pattern, rendered
    memory: Remembering | None
    on_disconnect: OnDisconnect
    output_schema: Json | None = None
    knowledge: Knowledge | None = None
    recalling: Recalling | None = None
    telling: Telling | None = None  # None: what happens is not remembered
    asked: Checked | None = None  # the query as the rules left it; None: as it came

    @property
    def looks_up(self) -> bool:
        """Whether its prompt has more than its templates and the conversation."""
        found = self.recalling is not None and self.recalling.looks_up
        return self.knowledge is not None or found

    @property
    def keeps(self) -> bool:
        """Whether its answer stays in memory."""
        learns = self.recalling is not None and self.recalling.learning is not None
        return self.memory is not None or learns

    def screened(self, run: Run) -> Run:
        """The run as it may be put on record."""
        asked = self.asked
        return replace(run, query=asked.text, block=asked.block) if asked else run


@dataclass(frozen=True, slots=True)
class End:
    """How a run ended."""

    state: RunState
    stop_reason: StopReason
    answer: str
    failure: Failure | None = None
    answered_by: str = ""
    block: Block | None = None


@dataclass(frozen=True, slots=True)
class Begin:
    """How an execution begins: `past` is what the log has, `crashed` how it came to stop."""

    past: Sequence[RunEvent] = ()
    on_record: bool = False
    crashed: bool = False


FRESH = Begin()
