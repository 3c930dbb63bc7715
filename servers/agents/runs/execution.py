"""Drives one run from its admission to its end, whatever the end is."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import structlog
from structlog.contextvars import bound_contextvars

from servers.agents.patterns.ports import Answer, Pattern, Task
from servers.agents.ports import RunStore
from servers.agents.runs.failure import failure_of
from servers.agents.runs.journal import Journal, first_sequence
from servers.agents.runs.log import RunLog
from servers.agents.runs.replay import Replay
from servers.agents.runs.sessions import Place, Sessions
from servers.agents.runs.steps import Means, RecordedSteps
from servers.domain.caller import Account, Caller
from servers.domain.chat import Json, Message, Role, ToolSpec, says
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
from servers.kernel.errors import AstromeshError, Internal, Unavailable
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
    output_schema: Json | None = None


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
        self.id = run.id
        self.run = run
        self.request_hash = ""
        self.plan = plan
        self._sessions = sessions
        self._now = now
        self._replay = Replay(past)
        again = run.attempt > 1  # although nothing but the run itself may be on record
        self.log = RunLog(run.id, now, past, first_sequence(run, past))
        self.journal = Journal(self.log, store, run.durability, on_record=again)
        account = Account(run.tenant, plan.caller.principal, run.agent, run.session, run.id)
        self._steps = RecordedSteps(plan.caller, account, plan.means, self.journal, self._replay)
        self._key = SessionKey(run.tenant, run.agent, run.session)
        self._place: Place | None = None  # in its session
        self._working: asyncio.Task[None] | None = None  # set while it can be cancelled
        self._holders = 0
        self._cancel_reason = ""
        self._left_for_later = False
        self.on_record = run.durability is not Durability.NONE  # when it has ended
        self.ended = asyncio.Event()

    # -- from outside ----------------------------------------------------------------------

    def start(self, tasks: asyncio.TaskGroup, on_end: Callable[["Execution"], None]) -> None:
        """From here on the run has its place in its session, and ends whatever happens."""
        self._place = self._sessions.enter(self._key, self._replaced)
        tasks.create_task(self._drive(on_end), name=self.run.id)

    def admit(self) -> None:
        """Begin to put the run on record: `admitted` tells when it is."""
        self.journal.admit(self.run, self.request_hash)

    async def admitted(self) -> Run:
        """Return when the run is on record, where it is to be before its end.

        Returns it, or the earlier run of the same request id. Raises what kept it off.
        """
        return await self.journal.admitted() or self.run

    def admit_later(self) -> None:
        """Put it on record soon: nobody hears of it before its end."""
        self.journal.admit_later(self.run, self.request_hash)

    def hold(self) -> None:
        """Somebody wants the run to go on, until it ends or he lets go."""
        self._holders += 1

    def let_go(self, on_disconnect: OnDisconnect) -> None:
        """The last one who lets go cancels the run."""
        if on_disconnect is OnDisconnect.CANCEL:
            self._holders -= 1
        if not self._holders:
            self.cancel("its caller went away")

    @contextmanager
    def watched(self, on_disconnect: OnDisconnect) -> Iterator[None]:
        """Somebody who holds the run watches it, and lets go when he leaves."""
        try:
            yield
        finally:
            self.let_go(on_disconnect)

    def cancel(self, reason: str) -> None:
        """Without effect from when the run has come to its end, which is then written.

        A run that has not begun yet sees the reason when it does.
        """
        self._cancel_reason = self._cancel_reason or reason
        if self._working is not None:
            self._working.cancel()

    def leave_for_later(self) -> None:
        """The process stops. What is on record goes on in the next one, unless somebody has
        cancelled it."""
        if not self._cancel_reason:
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
                if self._place:
                    self._sessions.leave(self._place)
                on_end(self)
                self.log.close()
                self.ended.set()

    async def _guarded(self) -> _End:
        """Every way to end becomes a value. What is cancelled is only what happens in here:
        the end is written whatever comes."""
        clock = asyncio.timeout(self.plan.timeout)
        self._working = asyncio.current_task()
        try:
            if self._cancel_reason:
                raise asyncio.CancelledError
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
        finally:
            self._working = None

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
        plan, place = self.plan, self._place
        assert place, "started before it is driven"
        if self.request_hash:  # another process may have had the same request
            await self._be_the_first()
        async with self._sessions.turn(place, plan.concurrency):
            await self._begin()
            task = Task(
                await self._conversation(), plan.tools, plan.max_iterations, plan.output_schema
            )
            answer = await plan.pattern(self._steps, task)
            await self._remember(answer)
            return answer

    async def _be_the_first(self) -> None:
        if (await self.admitted()).id != self.run.id:
            raise Unavailable(
                "the request had been taken already; send it again to hear what became of it",
                retry_after=1.0,
            )

    def _replaced(self) -> None:
        self.cancel("another run of the session replaced it")

    async def _begin(self) -> None:
        """Tell that the run works; after a crash, that it goes on."""
        if self.run.attempt > 1:
            self.journal.emit(Restarted(self.run.attempt, self._replay.last_step))
        queued = self.run.state is RunState.QUEUED
        if queued:
            self.run = replace(self.run, state=RunState.RUNNING, started_at=self._now())
        if not self._replay.running or queued:
            self.journal.emit(StateChanged(RunState.RUNNING))
        if self.run.attempt > 1:  # else the next attempt might use these sequences again
            await self.journal.commit(self.run)
        elif queued:
            self.journal.commit_soon(self.run)

    async def _conversation(self) -> tuple[Message, ...]:
        past: tuple[Message, ...] = ()
        if memory := self.plan.memory:
            with span("search_memory"):
                past = (await memory.context(self._key, self.plan.strategy)).messages
        system = self.plan.prompt(self.run)
        head = (says(Role.SYSTEM, system),) if system else ()
        return (*head, *past, says(Role.USER, self.run.query))

    async def _remember(self, answer: Answer) -> None:
        """Both turns or neither. That they can't be kept doesn't take the answer away."""
        if self.plan.memory is None:
            return
        turns = (says(Role.USER, self.run.query), says(Role.ASSISTANT, answer.text))
        try:
            with span("update_memory"):
                await self.plan.memory.append(self._key, turns, self.run.id)
        except AstromeshError as error:
            _log.warning("conversation not kept", error=error.message)
            self.journal.emit(Noticed("MEMORY_NOT_SAVED", error.message))

    # -- the end ---------------------------------------------------------------------------

    async def _leave(self) -> None:
        try:
            await self.journal.commit()
        except Exception as error:  # what is not on disk is done again
            _log.warning("left with steps that are not written", error=repr(error))

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
        except Exception as error:  # it must not take the other runs along
            _log.error("end of the run not written", error=repr(error))
            failed = self._failed(error)
            ended = replace(
                ended,
                state=failed.state,
                stop_reason=failed.stop_reason,
                failure=failed.failure,
            )
            self.journal.abandon(ended)
            self.on_record = False
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
