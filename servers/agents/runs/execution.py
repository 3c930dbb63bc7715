"""Drives one run from its admission to its end, whatever the end is."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

import structlog
from structlog.contextvars import bound_contextvars

from servers.agents.patterns.ports import Answer, Pattern, Task
from servers.agents.ports import RunStore
from servers.agents.runs.failure import failure_of
from servers.agents.runs.journal import RESTART_GAP, Journal
from servers.agents.runs.log import RunLog
from servers.agents.runs.replay import Replay
from servers.agents.runs.sessions import Sessions
from servers.agents.runs.steps import Means, RecordedSteps
from servers.domain.caller import Caller
from servers.domain.chat import Message, Role, ToolSpec, says
from servers.domain.memory import SessionKey, Strategy
from servers.domain.runs import (
    Durability,
    Failure,
    Noticed,
    OnDisconnect,
    Restarted,
    Run,
    RunEvent,
    RunState,
    StateChanged,
    StopReason,
)
from servers.domain.services import Memory
from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError, Internal
from servers.kernel.telemetry import span

_log = structlog.stdlib.get_logger("astromesh.runs")


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
    memory: Memory | None
    strategy: Strategy
    on_disconnect: OnDisconnect


@dataclass(frozen=True, slots=True)
class _End:
    state: RunState
    stop_reason: StopReason
    answer: str
    failure: Failure | None = None


class Execution:
    """A run at work in this process."""

    def __init__(
        self,
        run: Run,
        plan: Plan,
        sessions: Sessions,
        now: Callable[[], float],
        store: RunStore,
        past: Sequence[RunEvent] = (),
    ) -> None:
        self.run = run
        self.request_hash = ""
        self.plan = plan
        self._sessions = sessions
        self._now = now
        self._replay = Replay(past)
        again = run.attempt > 1  # although nothing but the run itself may be on record
        first = self._replay.last_sequence + RESTART_GAP if again else 1
        self.log = RunLog(run.id, now, past, first)
        self.journal = Journal(self.log, store, run.durability, on_record=again)
        self._steps = RecordedSteps(plan.caller, run.agent, plan.means, self.journal, self._replay)
        self._task: asyncio.Task[None] | None = None
        self._holders = 0
        self._cancel_reason = ""
        self._left_for_later = False
        self.ended = asyncio.Event()

    # -- from outside ----------------------------------------------------------------------

    def start(self, tasks: asyncio.TaskGroup, on_end: Callable[["Execution"], None]) -> None:
        self._task = tasks.create_task(self._drive(on_end), name=self.run.id)

    async def admit(self) -> Run:
        """Put the run on record. Returns it, or the earlier run of the same request id."""
        return await self.journal.admit(self.run, self.request_hash)

    def admit_later(self) -> None:
        """Put it on record soon: nobody hears of it before its end."""
        self.journal.admit_later(self.run, self.request_hash)

    def hold(self) -> None:
        """Somebody wants the run to go on until it ends."""
        self._holders += 1

    @contextmanager
    def held(self, on_disconnect: OnDisconnect) -> Iterator[None]:
        """Somebody watches. When the last one leaves early, the run is cancelled."""
        self._holders += 1
        try:
            yield
        finally:
            if on_disconnect is OnDisconnect.CANCEL:
                self._holders -= 1
            if not self._holders:  # cancelling a run that has ended does nothing
                self.cancel("its caller went away")

    def cancel(self, reason: str) -> None:
        if self._task is not None and not self.ended.is_set():
            self._cancel_reason = self._cancel_reason or reason
            self._task.cancel()

    def leave_for_later(self) -> None:
        """The process stops. What is on record goes on in the next one."""
        self._left_for_later = self.run.durability is Durability.STEP
        self.cancel("the mesh was stopped")

    def snapshot(self) -> Run:
        """The run as it stands now."""
        if self.run.state.terminal:
            return self.run
        return replace(
            self.run,
            answer=self._steps.said,
            usage=self._steps.tally.models,
            iterations=self._steps.iterations,
        )

    # -- the run ---------------------------------------------------------------------------

    async def _drive(self, on_end: Callable[["Execution"], None]) -> None:
        with bound_contextvars(run_id=self.run.id, agent=self.run.agent, tenant=self.run.tenant):
            try:
                end = await self._guarded()
                await (self._leave() if self._left_for_later else self._finish(end))
            finally:
                on_end(self)
                self.log.close()
                self.ended.set()

    async def _guarded(self) -> _End:
        """Every way to end becomes a value."""
        clock = asyncio.timeout(self.plan.timeout)
        try:
            async with clock:
                with span("invoke_agent", self._attributes()):
                    answer = await self._in_turn()
            return _End(RunState.COMPLETED, answer.stop_reason, answer.text)
        except TimeoutError as error:
            if clock.expired():
                return _End(RunState.TIMED_OUT, StopReason.DEADLINE, self._steps.said)
            return self._failed(error)
        except asyncio.CancelledError:
            return _End(RunState.CANCELLED, StopReason.CANCELLED, self._steps.said)
        except Exception as error:  # a run that breaks must still end
            return self._failed(error)

    def _attributes(self) -> telemetry.Attributes:
        return {
            telemetry.OPERATION: "invoke_agent",
            telemetry.AGENT: self.run.agent,
            telemetry.RUN: self.run.id,
            telemetry.CONVERSATION: self.run.session,
        }

    def _failed(self, error: Exception) -> _End:
        if not isinstance(error, AstromeshError):
            _log.exception("run broke", error=repr(error))
            error = Internal("the run broke on a fault of the mesh; its log has the details")
        return _End(RunState.FAILED, StopReason.ERROR, self._steps.said, failure_of(error))

    async def _in_turn(self) -> Answer:
        run, plan = self.run, self.plan
        key = SessionKey(run.tenant, run.agent, run.session)
        async with self._sessions.turn(key, plan.concurrency, self._replaced):
            self._begin()
            task = Task(await self._conversation(key), plan.tools, plan.max_iterations)
            answer = await plan.pattern(self._steps, task)
            await self._remember(key, answer)
            return answer

    def _replaced(self) -> None:
        self.cancel("another run of the session replaced it")

    def _begin(self) -> None:
        """Tell that the run works; after a crash, that it goes on."""
        if self.run.attempt > 1:
            self.journal.emit(Restarted(self.run.attempt, self._replay.last_step))
        queued = self.run.state is RunState.QUEUED
        if queued:
            self.run = replace(self.run, state=RunState.RUNNING, started_at=self._now())
        if not self._replay.running or queued:
            self.journal.emit(StateChanged(RunState.RUNNING))
        if queued or self.run.attempt > 1:
            self.journal.commit_soon(self.run)

    async def _conversation(self, key: SessionKey) -> tuple[Message, ...]:
        past: tuple[Message, ...] = ()
        if memory := self.plan.memory:
            with span("search_memory"):
                past = (await memory.context(key, self.plan.strategy)).messages
        system = self.plan.prompt(self.run)
        head = (says(Role.SYSTEM, system),) if system else ()
        return (*head, *past, says(Role.USER, self.run.query))

    async def _remember(self, key: SessionKey, answer: Answer) -> None:
        """Both turns or neither. That they can't be kept doesn't take the answer away."""
        if self.plan.memory is None:
            return
        turns = (says(Role.USER, self.run.query), says(Role.ASSISTANT, answer.text))
        try:
            with span("update_memory"):
                await self.plan.memory.append(key, turns, self.run.id)
        except AstromeshError as error:
            _log.warning("conversation not kept", error=error.message)
            self.journal.emit(Noticed("MEMORY_NOT_SAVED", error.message))

    # -- the end ---------------------------------------------------------------------------

    async def _leave(self) -> None:
        with suppress(AstromeshError):  # what is not on disk is done again
            await self.journal.commit()

    async def _finish(self, end: _End) -> None:
        ended = replace(
            self.run,
            answer=end.answer,
            usage=self._steps.tally.models,
            iterations=self._steps.iterations,
            state=end.state,
            stop_reason=end.stop_reason,
            failure=end.failure,
            ended_at=self._now(),
        )
        if end.state is RunState.CANCELLED and self._cancel_reason:
            self.journal.emit(StateChanged(RunState.CANCELLED, self._cancel_reason))
        try:
            await self.journal.end(ended, self.request_hash)
        except AstromeshError as error:
            _log.error("end of the run not written", error=error.message)
            ended = replace(ended, state=RunState.FAILED, failure=failure_of(error))
            self.journal.abandon(ended)
        self.run = ended
        self._measure(ended)

    def _measure(self, run: Run) -> None:
        _log.info(
            "run",
            state=run.state.value,
            ms=round(((run.ended_at or 0.0) - run.created_at) * 1000, 1),
            iterations=run.iterations,
            tokens=self._steps.tally.tokens,
        )
        if telemetry.counting():
            seconds = (run.ended_at or 0.0) - (run.started_at or run.created_at)
            attributes = {telemetry.AGENT: run.agent, "astromesh.run.state": run.state.value}
            telemetry.record(telemetry.AGENT_DURATION, seconds, attributes)
