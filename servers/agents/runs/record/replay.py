"""What a run had done before it stopped or waited, found by position and name."""

from collections import defaultdict
from collections.abc import Sequence

from servers.domain.run_events import (
    Asked,
    BranchEnded,
    BranchStarted,
    Decided,
    EpisodesRecalled,
    Guarded,
    KnowledgeFound,
    MemoriesRecalled,
    ModelReplied,
    ReasoningDelta,
    RunEvent,
    StateChanged,
    SubRunStarted,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from servers.domain.runs import Ask, RunState
from servers.domain.sources import Source
from servers.kernel.errors import DataLost


class Replay:
    """The recorded steps of a run. Empty for a run that starts."""

    def __init__(self, events: Sequence[RunEvent] = ()) -> None:
        self._replies: dict[str, list[ModelReplied]] = defaultdict(list)  # by node
        self._started: dict[str, ToolCalled] = {}
        self._returned: dict[str, ToolReturned] = {}
        self._branches: dict[str, BranchStarted] = {}
        self._ended: dict[str, BranchEnded] = {}
        self._asked: dict[str, Ask] = {}
        self._decided: dict[str, Decided] = {}
        self._sub_runs: dict[str, SubRunStarted] = {}
        self.blocked: Guarded | None = None  # by what a guardrail ended the run
        self.warnings: set[Guarded] = set()
        self.running = False  # whether it has its turn already, and does not wait
        self.last_sequence = 0  # of all that is on record
        self.last_step = 0  # of what still holds: text after it is void
        self.model_calls = 0  # the highest number of one
        self.sources: list[Source] = []  # of what was looked up
        # What the prompt said of what was looked up, be it nothing. None: it is not on record, as
        # in logs of before 0.1 that name what was found without its text.
        self.knowledge: str | None = None
        self.memories: str | None = None
        self.episodes: str | None = None
        for event in events:
            self._note(event)

    def _note(self, event: RunEvent) -> None:
        self.last_sequence = event.sequence
        match event.payload:
            case TextDelta() | ReasoningDelta():
                return
            case ModelReplied() as reply:
                self._replies[reply.node].append(reply)
                self.model_calls = max(self.model_calls, reply.model_call)
            case KnowledgeFound() as found:
                self.sources += found.sources
                if not found.call_id and (found.text or not found.sources):
                    self.knowledge = found.text
            case MemoriesRecalled(memories, text) if text or not memories:
                self.memories = text
            case EpisodesRecalled(text=text):
                self.episodes = text
            case ToolCalled() as call:
                self._started[call.call_id] = call
            case ToolReturned() as result:
                self._returned[result.call_id] = result
            case StateChanged(state):
                self.running = state is RunState.RUNNING
            case _:
                self._note_part(event)
        self.last_step = event.sequence

    def _note_part(self, event: RunEvent) -> None:
        match event.payload:
            case BranchStarted() as start:
                self._branches[start.node] = start
            case BranchEnded() as end:
                self._ended[end.node] = end
            case Asked(ask):
                self._asked[ask.call_id] = ask
            case Decided() as decided:
                self._decided[decided.decision.call_id] = decided
            case SubRunStarted() as sub:
                self._sub_runs[sub.call_id] = sub
            case Guarded(action="block") as report:
                self.blocked = self.blocked or report
            case Guarded(action="warn") as report:
                self.warnings.add(report)

    def reply(self, node: str, position: int) -> ModelReplied | None:
        """The reply of a node's model call, from 0."""
        replies = self._replies[node]
        return replies[position] if position < len(replies) else None

    def started(self, call_id: str) -> bool:
        return call_id in self._started

    def result(self, call_id: str) -> ToolReturned | None:
        return self._returned.get(call_id)

    def branch(self, node: str) -> BranchStarted | None:
        return self._branches.get(node)

    def branch_end(self, node: str) -> BranchEnded | None:
        return self._ended.get(node)

    def ask(self, call_id: str) -> Ask | None:
        return self._asked.get(call_id)

    def decision(self, call_id: str) -> Decided | None:
        return self._decided.get(call_id)

    def decide(self, decided: Decided) -> None:
        """Something that came while the run works."""
        self._decided[decided.decision.call_id] = decided

    @property
    def delegated(self) -> bool:
        """Whether sub-agents have been asked."""
        return bool(self._sub_runs)

    def sub_run(self, call_id: str) -> SubRunStarted | None:
        return self._sub_runs.get(call_id)

    def check(self, call: ToolCalled) -> None:
        """A run that takes other steps than those on record can't be trusted to go on."""
        recorded = self._started.get(call.call_id)
        if recorded and (recorded.name, recorded.arguments) != (call.name, call.arguments):
            raise _mismatch(f"call {call.call_id!r}", recorded.name, f"calls {call.name!r}")

    def check_branch(self, start: BranchStarted) -> None:
        recorded = self._branches.get(start.node)
        if recorded and recorded != start:
            raise _mismatch(f"part {start.node!r}", recorded.name, f"begins {start.name!r}")


def _mismatch(what: str, recorded: str, does: str) -> DataLost:
    return DataLost(
        f"replay of {what} found {recorded!r} on record where the run now {does}; "
        "the run can't go on",
        reason="REPLAY_MISMATCH",
    )
