"""Runs and events as rows: what a row holds, and back again without loss.

What is written together shares a row, which spans the sequences from `first` to `last`:
a row costs more than what is in it. Within it, consecutive deltas of one model call are
one entry that lists their pieces; only their times are lost, all become that of the first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

from servers.domain.chat import (
    Finish,
    FinishReason,
    ModelUsage,
    Notice,
    ToolCall,
    Usage,
)
from servers.domain.run_events import (
    Asked,
    BranchEnded,
    BranchKind,
    BranchStarted,
    Completed,
    Decided,
    EpisodesRecalled,
    Guarded,
    KnowledgeFound,
    MemoriesRecalled,
    ModelReplied,
    Noticed,
    Payload,
    ReasoningDelta,
    RecalledEpisode,
    RecalledMemory,
    Restarted,
    RunEvent,
    StateChanged,
    SubRunStarted,
    TextDelta,
    ToolCalled,
    ToolReturned,
    UsageReported,
)
from servers.domain.runs import (
    Ask,
    AskKind,
    Block,
    Decision,
    Direction,
    Durability,
    Failure,
    Run,
    RunState,
    StopReason,
    Verdict,
)
from servers.domain.sources import Source
from servers.domain.tools import Outcome
from servers.kernel.errors import DataLost
from servers.kernel.stored_json import Tree, dumps, loads, message_from

Delta: TypeAlias = TextDelta | ReasoningDelta


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a log: the events that were written together."""

    first: int
    last: int
    time: float  # seconds since the epoch
    body: bytes


def row_of(events: Sequence[RunEvent]) -> Row:
    """All of them, at least one, in one row."""
    # Neighbours have consecutive sequences where sequence and position grow alike.
    groups = groupby(enumerate(events), key=lambda each: _chunk(each[0], each[1]))
    entries = [_entry([event for _, event in group]) for _, group in groups]
    first, last = events[0], events[-1]
    return Row(first.sequence, last.sequence, first.time, dumps(entries))


def events_of(run_id: str, row: Row) -> list[RunEvent]:
    """Raises DataLost where the row is not one that `row_of` makes."""
    try:
        events = [event for entry in loads(row.body) for event in _events(run_id, *entry)]
        if not events or events[-1].sequence != row.last:
            raise ValueError("it does not hold what it spans")
        return events
    except (KeyError, TypeError, ValueError) as error:
        raise DataLost(
            f"event {row.first} of run {run_id!r} can't be read: {error!r}", run_id=run_id
        ) from error


def _events(run_id: str, kind: str, first: int, time: float, tree: Tree) -> Iterator[RunEvent]:
    if delta := _DELTAS.get(kind):
        for at, piece in enumerate(tree["pieces"], first):
            node = tree.get("node", "")
            yield RunEvent(run_id, at, time, delta(piece, tree["model_call"], node))
    else:
        yield RunEvent(run_id, first, time, _PAYLOADS[kind](tree))


def run_body(run: Run) -> bytes:
    return dumps(run)


def run_from(body: bytes) -> Run:
    """Raises DataLost where the body is not one that `run_body` makes."""
    try:
        return _run(loads(body))
    except (KeyError, TypeError, ValueError) as error:
        raise DataLost(f"a stored run can't be read: {error!r}") from error


def _chunk(position: int, event: RunEvent) -> tuple[Any, ...]:
    """Equal for neighbours that may share a row."""
    payload = event.payload
    if isinstance(payload, TextDelta | ReasoningDelta):
        return type(payload), payload.node, payload.model_call, event.sequence - position
    return (position,)


def _entry(events: list[RunEvent]) -> tuple[str, int, float, object]:
    """Kind, first sequence, time, and what there is to say."""
    first, payload = events[0], events[0].payload
    body: object = payload
    if isinstance(payload, TextDelta | ReasoningDelta):
        pieces = [
            e.payload.text for e in events if isinstance(e.payload, TextDelta | ReasoningDelta)
        ]
        body = {"model_call": payload.model_call, "node": payload.node, "pieces": pieces}
    return _KINDS[type(payload)], first.sequence, first.time, body


def _usage(tree: Tree) -> Usage:
    return Usage(**tree)


def _models(trees: list[Tree]) -> tuple[ModelUsage, ...]:
    return tuple(ModelUsage(**{**tree, "usage": _usage(tree["usage"])}) for tree in trees)


def _finish(tree: Tree) -> Finish:
    return Finish(
        FinishReason(tree["reason"]),
        tuple(ToolCall(**call) for call in tree["tool_calls"]),
        _usage(tree["usage"]),
        tree["provider"],
        tree["model"],
        _models(tree.get("besides", [])),
        tree.get("emulated", False),
        tree.get("cached", False),
        tuple(Notice(**each) for each in tree.get("notices", ())),
    )


def _replied(tree: Tree) -> ModelReplied:
    parts = {"message": message_from(tree["message"]), "finish": _finish(tree["finish"])}
    return ModelReplied(**{**tree, **parts})


def _run(tree: Tree) -> Run:
    stop, failure = tree["stop_reason"], tree["failure"]
    parts = {
        "state": RunState(tree["state"]),
        "durability": Durability(tree["durability"]),
        "stop_reason": None if stop is None else StopReason(stop),
        "usage": _models(tree["usage"]),
        "failure": None if failure is None else _failure(failure),
        "waiting": tuple(map(_ask, tree.get("waiting", ()))),
        "block": _block(tree["block"]) if tree.get("block") else None,
        "sources": tuple(Source(**each) for each in tree.get("sources", ())),
    }
    return Run(**{**tree, **parts})


def _ask(tree: Tree) -> Ask:
    parts = {"kind": AskKind(tree["kind"]), "principals": tuple(tree["principals"])}
    return Ask(**{**tree, **parts})


def _block(tree: Tree) -> Block:
    return Block(**{**tree, "direction": Direction(tree["direction"])})


def _branch_ended(tree: Tree) -> BranchEnded:
    failure = tree["failure"]
    return BranchEnded(tree["node"], None if failure is None else _failure(failure))


def _decided(tree: Tree) -> Decided:
    decision = tree["decision"]
    made = Decision(**{**decision, "verdict": Verdict(decision["verdict"])})
    return Decided(made, tree["principal"])


def _failure(tree: Tree) -> Failure:
    violations = tuple((field, says) for field, says in tree.get("violations", ()))
    return Failure(**{**tree, "violations": violations})


_DELTAS: dict[str, type[Delta]] = {"text": TextDelta, "reasoning": ReasoningDelta}

_PAYLOADS: dict[str, Callable[[Tree], Payload]] = {
    "state": lambda tree: StateChanged(RunState(tree["state"]), tree["reason"]),
    "model_replied": _replied,
    "tool_called": lambda tree: ToolCalled(**tree),
    "tool_returned": lambda tree: ToolReturned(**{**tree, "outcome": Outcome(tree["outcome"])}),
    "branch_started": lambda tree: BranchStarted(**{**tree, "kind": BranchKind(tree["kind"])}),
    "branch_ended": _branch_ended,
    "sub_run_started": lambda tree: SubRunStarted(**tree),
    "asked": lambda tree: Asked(_ask(tree["ask"])),
    "decided": _decided,
    "guarded": lambda tree: Guarded(**{**tree, "direction": Direction(tree["direction"])}),
    "usage": lambda tree: UsageReported(_models(tree["models"])),
    "knowledge": lambda tree: KnowledgeFound(
        **{**tree, "sources": tuple(Source(**each) for each in tree["sources"])}
    ),
    "memory": lambda tree: MemoriesRecalled(
        tuple(RecalledMemory(**each) for each in tree["memories"]), tree.get("text", "")
    ),
    "episodes": lambda tree: EpisodesRecalled(
        tuple(RecalledEpisode(**each) for each in tree["episodes"]), tree["text"]
    ),
    "noticed": lambda tree: Noticed(**tree),
    "restarted": lambda tree: Restarted(**tree),
    "completed": lambda tree: Completed(_run(tree["run"])),
}

_KINDS: dict[type[Payload], str] = {
    TextDelta: "text",
    ReasoningDelta: "reasoning",
    StateChanged: "state",
    ModelReplied: "model_replied",
    ToolCalled: "tool_called",
    ToolReturned: "tool_returned",
    BranchStarted: "branch_started",
    BranchEnded: "branch_ended",
    SubRunStarted: "sub_run_started",
    Asked: "asked",
    Decided: "decided",
    Guarded: "guarded",
    UsageReported: "usage",
    KnowledgeFound: "knowledge",
    MemoriesRecalled: "memory",
    EpisodesRecalled: "episodes",
    Noticed: "noticed",
    Restarted: "restarted",
    Completed: "completed",
}
