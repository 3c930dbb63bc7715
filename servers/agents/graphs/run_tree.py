"""What a run and its sub-agents' runs did, as a tree, from their logs."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field

from servers.agents.graphs.sketch import MOST_NODES, Sketch
from servers.domain.run_events import (
    Asked,
    BranchEnded,
    BranchStarted,
    Decided,
    Guarded,
    ModelReplied,
    Payload,
    ReasoningDelta,
    Restarted,
    RunEvent,
    SubRunStarted,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from servers.domain.runs import Ask, Run
from servers.domain.tools import Outcome
from servers.kernel.errors import NotFound

Look = Callable[[str], Awaitable[Run]]  # raises NotFound
Read = Callable[[str], AsyncGenerator[RunEvent, None]]  # what there is by now


async def run_tree(run_id: str, look: Look, read: Read, most: int = MOST_NODES) -> Sketch:
    """Raises NotFound."""
    sketch = Sketch(most=most)
    await _drawn(await look(run_id), sketch, "", look, read)
    return sketch


async def _drawn(run: Run, sketch: Sketch, parent: str, look: Look, read: Read) -> None:
    trunk = _Trunk(run, sketch, parent)
    async with aclosing(read(run.id)) as events:
        async for event in events:
            trunk.grow(event)
    trunk.end()
    for call_id, run_id in trunk.sub_runs.items():
        node = trunk.calls.get(call_id, "")
        if sketch.full:
            sketch.miss(1)
            continue
        try:
            sub_run = await look(run_id)
        except NotFound:  # forgotten
            continue
        await _drawn(sub_run, sketch, node, look, read)


@dataclass(slots=True)
class _Trunk:
    """One run of the tree, as its log is read."""

    run: Run
    sketch: Sketch
    parent: str
    root: str = ""
    parts: dict[str, str] = field(default_factory=dict)  # node of the run -> of the graph
    replies: dict[int, str] = field(default_factory=dict)  # model call -> node
    calls: dict[str, str] = field(default_factory=dict)  # tool call -> node
    waits: dict[str, tuple[str, float]] = field(default_factory=dict)  # -> node, since when
    begun: dict[str, float] = field(default_factory=dict)  # node -> when
    sub_runs: dict[str, str] = field(default_factory=dict)  # tool call -> run id
    now: float = 0.0

    def __post_init__(self) -> None:
        run = self.run
        label = f"{run.agent}: {run.query}" if run.query else run.agent
        self.root = self.sketch.add("run", label, self.parent)
        took = max(0.0, run.ended_at - run.created_at) if run.ended_at is not None else 0.0
        usage = run.total if run.usage else None
        self.sketch.change(
            self.root, state=run.state.value, duration=took, usage=usage, run_id=run.id
        )

    def grow(self, event: RunEvent) -> None:
        self.now = event.time
        match event.payload:
            case TextDelta() | ReasoningDelta() as delta:
                self._speaks(delta.model_call, delta.node)
            case ModelReplied() as reply:
                self._replied(reply)
            case ToolCalled(call_id, name, node=node):
                self._called(call_id, name, node)
            case ToolReturned() as result:
                self._returned(result)
            case _:
                self._grow_more(event.payload)

    def _grow_more(self, payload: Payload) -> None:
        match payload:
            case BranchStarted() as start:
                above = self._part(start.parent)
                node = self.parts[start.node] = self._add(start.kind.value, start.name, above)
                self.sketch.change(node, state="running")
                self.begun[node] = self.now
            case BranchEnded(node, failure):
                self._change_ended(self.parts.get(node, ""), "failed" if failure else "completed")
            case SubRunStarted(call_id, run_id):
                self.sub_runs[call_id] = run_id
            case Asked(ask):
                self._asked(ask)
            case Decided(decision):
                self._came(decision.call_id, decision.verdict.value)
            case Guarded() as guarded:
                self._guarded(guarded)
            case Restarted():  # the model is asked again
                self._cut_off(self.replies.values())

    # -- steps ---------------------------------------------------------------------------------

    def _speaks(self, model_call: int, node: str) -> None:
        if model_call not in self.replies:
            spoken = self.replies[model_call] = self._add("model_call", "model", self._part(node))
            self.sketch.change(spoken, state="running")
            self.begun[spoken] = self.now

    def _replied(self, reply: ModelReplied) -> None:
        self._speaks(reply.model_call, reply.node)
        finish = reply.finish
        self.sketch.change(
            self.replies[reply.model_call],
            label=f"{finish.provider}/{finish.model}",
            state="cached" if finish.cached else finish.reason.value,
            duration=reply.duration,
            usage=finish.usage,
        )

    def _called(self, call_id: str, name: str, node: str = "") -> str:
        if call_id not in self.calls:
            asked_by = self.replies.get(_model_call(call_id)) or self._part(node)
            called = self.calls[call_id] = self._add("tool_call", name, asked_by)
            self.sketch.change(called, state="running")
            self.begun[called] = self.now
        return self.calls[call_id]

    def _returned(self, result: ToolReturned) -> None:
        node = self._called(result.call_id, result.name)
        state = "completed" if result.outcome is Outcome.OK else result.outcome.value
        self._change_ended(node, state, result.duration)
        self._came(result.call_id, "over")

    def _asked(self, ask: Ask) -> None:
        call = self._called(ask.call_id, ask.tool)
        self.sketch.change(call, state="waiting")
        node = self._add("wait", f"waits: {ask.kind.value}", call)
        self.sketch.change(node, state="open", run_id=ask.run_id)
        self.waits[ask.call_id] = node, self.now

    def _came(self, call_id: str, state: str) -> None:
        if call_id in self.waits:
            node, since = self.waits.pop(call_id)
            self.sketch.change(node, state=state, duration=max(0.0, self.now - since))

    def _guarded(self, guarded: Guarded) -> None:
        above = self.calls.get(guarded.call_id) or self.root
        direction = guarded.direction.value.replace("_", " ")
        node = self._add("guard", f"{guarded.rule} on {direction}", above)
        self.sketch.change(node, state=guarded.action)

    # -- the end -------------------------------------------------------------------------------

    def end(self) -> None:
        """What has not ended by now: at work where the run is, else cut off."""
        if self.run.state.terminal:
            self._cut_off((*self.replies.values(), *self.calls.values(), *self.parts.values()))
            for call_id in list(self.waits):
                self._came(call_id, "cut_off")

    def _cut_off(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            if node and self.sketch.node(node).state in ("running", "waiting"):
                self.sketch.change(node, state="cut_off")

    def _change_ended(self, node: str, state: str, took: float = 0.0) -> None:
        if node:
            took = took or max(0.0, self.now - self.begun.get(node, self.now))
            self.sketch.change(node, state=state, duration=took)

    def _part(self, node: str) -> str:
        return self.parts.get(node) or self.root

    def _add(self, kind: str, label: str, parent: str) -> str:
        return self.sketch.add(kind, label, parent)


def _model_call(call_id: str) -> int:
    head = call_id.partition(".")[0]
    return int(head) if head.isdigit() else 0
