"""What a run had done before its process stopped, found by position and name."""

from collections.abc import Sequence

from servers.domain.runs import (
    ModelReplied,
    ReasoningDelta,
    RunEvent,
    StateChanged,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from servers.kernel.errors import DataLost


class Replay:
    """The recorded steps of a run. Empty for a run that starts."""

    def __init__(self, events: Sequence[RunEvent] = ()) -> None:
        self._replies: dict[int, ModelReplied] = {}
        self._started: dict[str, ToolCalled] = {}
        self._returned: dict[str, ToolReturned] = {}
        self.running = False  # whether it had its turn already
        self.last_sequence = 0  # of all that is on record
        self.last_step = 0  # of what still holds: text after it is void
        for event in events:
            self._note(event)

    def _note(self, event: RunEvent) -> None:
        self.last_sequence = event.sequence
        match event.payload:
            case TextDelta() | ReasoningDelta():
                return
            case ModelReplied() as reply:
                self._replies[reply.model_call] = reply
            case ToolCalled() as call:
                self._started[call.call_id] = call
            case ToolReturned() as result:
                self._returned[result.call_id] = result
            case StateChanged():
                self.running = True
        self.last_step = event.sequence

    def reply(self, model_call: int) -> ModelReplied | None:
        return self._replies.get(model_call)

    def started(self, call_id: str) -> bool:
        return call_id in self._started

    def result(self, call: ToolCalled) -> ToolReturned | None:
        return self._returned.get(call.call_id)

    def check(self, call: ToolCalled) -> None:
        """A run that takes other steps than those on record can't be trusted to go on."""
        recorded = self._started.get(call.call_id)
        if recorded and (recorded.name, recorded.arguments) != (call.name, call.arguments):
            raise DataLost(
                f"replay of call {call.call_id!r} found {recorded.name!r} on record where the "
                f"run now calls {call.name!r}; the run can't go on",
                reason="REPLAY_MISMATCH",
            )
