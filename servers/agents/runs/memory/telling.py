"""What of a run is remembered once it has ended: itself, and its tool calls.

Everything is read from the run's log, which guardrails have seen: nothing that they removed
is told.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from servers.agents.runs.record.journal import Journal
from servers.domain.episodes import Episode, EpisodeOutcome, Episodes, EpisodeType, RunTold
from servers.domain.memory import SessionKey
from servers.domain.run_events import (
    Decided,
    Guarded,
    ModelReplied,
    Noticed,
    RunEvent,
    ToolCalled,
    ToolReturned,
)
from servers.domain.runs import Run, RunState, StopReason, Verdict
from servers.domain.tools import Outcome
from servers.kernel.errors import AstromeshError
from servers.kernel.telemetry import span

_log = structlog.stdlib.get_logger("astromesh.memory")

_PATIENCE: Final = 15.0  # seconds: a store that was started again is there by then
_QUESTION: Final = 8_000  # characters of a question, and of an answer
_CALL: Final = 2_000  # of a call's arguments, and of its result
_CALLS: Final = 1_000  # that are told: of more, the last ones
_ALL: Final = 400_000  # characters of all calls together, and so of a message to the service
_NAME: Final = 256
_REASON: Final = 500
_END: Final = "…"

_OUTCOMES = {
    Outcome.OK: EpisodeOutcome.SUCCEEDED,
    Outcome.ERROR: EpisodeOutcome.FAILED,
    Outcome.TIMEOUT: EpisodeOutcome.TIMED_OUT,
    Outcome.UNKNOWN: EpisodeOutcome.UNKNOWN,
}
_ENDS = {
    RunState.COMPLETED: EpisodeOutcome.SUCCEEDED,
    RunState.FAILED: EpisodeOutcome.FAILED,
    RunState.BLOCKED: EpisodeOutcome.BLOCKED,
    RunState.CANCELLED: EpisodeOutcome.CANCELLED,
    RunState.TIMED_OUT: EpisodeOutcome.TIMED_OUT,
}
# Of a call that had not returned when its run ended.
_LEFT = {
    RunState.BLOCKED: EpisodeOutcome.BLOCKED,
    RunState.CANCELLED: EpisodeOutcome.CANCELLED,
    RunState.TIMED_OUT: EpisodeOutcome.TIMED_OUT,
}


@dataclass(frozen=True, slots=True)
class Telling:
    """Of one agent: where what happens in its runs is kept, and how long."""

    episodes: Episodes
    backend: str
    ttl: float  # seconds; 0: for ever

    async def tell(self, run: Run, events: Sequence[RunEvent], why: str = "") -> None:
        """Of a run that has ended; told again, it adds nothing. `why`: it was cancelled."""
        told = told_of(run, events, why)
        await self.episodes.record(replace(told, ttl=self.ttl, backend=self.backend))


async def put_down(telling: Telling | None, run: Run, journal: Journal, why: str = "") -> None:
    """Before the end is written: should the process stop between the two, the run goes on, and
    tells it again. That it can't be kept is a notice, whatever the reason: the run ends."""
    if telling is None:
        return
    try:
        async with asyncio.timeout(_PATIENCE):
            with span("update_memory"):
                await telling.tell(run, journal.log.events, why)
        return
    except AstromeshError as error:
        said = error.message
        _log.warning("episodes not kept", error=said)
    except TimeoutError:
        said = "the memory service doesn't answer"
        _log.warning("episodes not kept", error=said)
    except Exception as error:
        said = "it broke on a fault of the mesh; its log has the details"
        _log.exception("episodes not kept", error=repr(error))
    journal.emit(Noticed("MEMORY_NOT_SAVED", f"what happened is not remembered: {said}"))


def told_of(run: Run, events: Sequence[RunEvent], why: str = "") -> RunTold:
    started = run.started_at or run.created_at
    ended = run.ended_at or started
    itself = Episode(
        EpisodeType.RUN,
        _cut(run.query, _QUESTION),
        _cut(run.answer, _QUESTION),
        outcome=_ENDS[run.state],
        reason=_cut(_reason(run, why), _REASON),
        duration=max(0.0, ended - started),
        created_at=ended,
    )
    calls = list(_calls(run, events))[-_CALLS:]
    each = min(_CALL, _ALL // max(1, len(calls)) // 2)
    shortened = [
        replace(call, text=_cut(call.text, each), result=_cut(call.result, each)) for call in calls
    ]
    key = SessionKey(run.tenant, run.agent, run.session)
    return RunTold(key, run.id, run.attempt, (itself, *shortened), run.principal)


def _reason(run: Run, why: str) -> str:
    if run.failure:
        return run.failure.reason or run.failure.code
    if run.block:
        return run.block.rule
    if run.stop_reason in (None, StopReason.ANSWER):
        return ""
    return (run.state is RunState.CANCELLED and why) or run.stop_reason.value


def _calls(run: Run, events: Sequence[RunEvent]) -> Iterator[Episode]:
    """In the order in which they began."""
    log = _Log(events)
    for call_id, (asked, began) in log.asked.items():
        returned = log.returned.get(call_id)
        if returned is None:
            if began is not None:  # else still to be approved, or the run ended before it
                yield _left(run, asked, began, log.blocked.get(call_id, ""))
            continue
        at, result = returned
        rejected = call_id in log.rejected
        yield Episode(
            EpisodeType.TOOL_CALL,
            asked.arguments,
            result.content,
            _name(asked.name),
            EpisodeOutcome.REJECTED if rejected else _OUTCOMES[result.outcome],
            duration=max(0.0, result.duration or (at - began if began else 0.0)),
            created_at=at,
        )


def _left(run: Run, asked: ToolCalled, began: float, reason: str) -> Episode:
    """A call that was made, and whose end the run didn't see."""
    at = run.ended_at or began
    return Episode(
        EpisodeType.TOOL_CALL,
        asked.arguments,
        name=_name(asked.name),
        outcome=_LEFT.get(run.state, EpisodeOutcome.UNKNOWN),
        reason=reason,
        duration=max(0.0, at - began),
        created_at=at,
    )


class _Log:
    """The calls of a log, by their ids."""

    def __init__(self, events: Sequence[RunEvent]) -> None:
        self.asked: dict[str, tuple[ToolCalled, float | None]] = {}  # and when it began
        self.returned: dict[str, tuple[float, ToolReturned]] = {}
        self.rejected: set[str] = set()
        self.blocked: dict[str, str] = {}  # by which rule
        for event in events:
            self._note(event)

    def _note(self, event: RunEvent) -> None:
        match event.payload:
            case ModelReplied(number, message):
                for position, call in enumerate(message.tool_calls):
                    id = f"{number}.{position}"
                    self.asked.setdefault(id, (ToolCalled(id, call.name, call.arguments), None))
            case ToolCalled() as call:
                self.asked[call.call_id] = call, event.time
            case ToolReturned() as result:
                self.returned[result.call_id] = event.time, result
            case Decided(decision) if decision.verdict is Verdict.REJECT:
                self.rejected.add(decision.call_id)
            case Guarded(rule, action="block", call_id=call_id):
                self.blocked[call_id] = rule


def _name(text: str) -> str:
    """Models call tools that are not there, whose names may be anything."""
    plain = "".join(each if each.isprintable() else "?" for each in _plain(text[:_NAME]))
    return plain or "?"


def _cut(text: str, longest: int) -> str:
    text = _plain(text)
    return text if len(text) <= longest else text[: longest - 1] + _END


def _plain(text: str) -> str:
    """Without what a database can't keep."""
    return text.encode(errors="replace").decode().replace("\0", "")
