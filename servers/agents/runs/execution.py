"""Drives one run from its admission to its end, whatever the end is, or until it waits."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace

import structlog
from structlog.contextvars import bound_contextvars

from servers.agents.patterns.ports import Answer, Suspended, Task
from servers.agents.runs.beginning import begun, task_of
from servers.agents.runs.calls.deciding import already_decided
from servers.agents.runs.ending import (
    answered,
    broken,
    come_to,
    ended_by,
    found_again,
    keep,
    stopped_by,
    unwritten,
)
from servers.agents.runs.guarding import Blocked, checked_decision
from servers.agents.runs.judging import Judging
from servers.agents.runs.line import Line
from servers.agents.runs.measuring import measured
from servers.agents.runs.memory.telling import put_down
from servers.agents.runs.plan import FRESH, Begin, End, Plan
from servers.agents.runs.record.journal import STEP_SECONDS, Journal, first_sequence
from servers.agents.runs.record.log import RunLog
from servers.agents.runs.record.replay import Replay
from servers.agents.runs.record.writes import RunWriter
from servers.agents.runs.sessions import Place, Sessions
from servers.agents.runs.steps import RecordedSteps
from servers.agents.runs.work import SubRuns, Work
from servers.domain.caller import Account
from servers.domain.chat import Json
from servers.domain.memory import SessionKey
from servers.domain.run_events import Decided, RunEvent, StateChanged
from servers.domain.runs import Ask, AskKind, Durability, OnDisconnect, Run, RunState, StopReason
from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError, Unavailable
from servers.kernel.telemetry import span

_log = structlog.stdlib.get_logger("astromesh.runs")


# What is told first, where a run waits for several things.
_FIRST = (AskKind.APPROVAL, AskKind.INPUT, AskKind.RUN, AskKind.TIMER)


class Execution:
    """A run at work in this process."""

    def __init__(
        self,
        run: Run,
        plan: Plan,
        sessions: Sessions,
        line: Line,
        now: Callable[[], float],
        store: RunWriter,
        sub_runs: SubRuns,
        begin: Begin = FRESH,
        step_seconds: float = STEP_SECONDS,
    ) -> None:
        self.id = run.id
        self.run = run
        self.request_hash = ""
        self.plan = plan
        self._sessions = sessions
        self._line = line
        self._now = now
        self._sub_runs = sub_runs
        self._begin_with = begin
        self._resumed = begin.on_record
        first = first_sequence(run, begin.past, begin.crashed)
        self.log = RunLog(run.id, now, begin.past, first)
        durability, on_record = run.durability, begin.on_record
        self.journal = Journal(self.log, store, durability, on_record, step_seconds)
        self._work = self._new_work(begin.past)
        self._key = SessionKey(run.tenant, run.agent, run.session)
        self._place: Place | None = None  # in its session
        self._working: asyncio.Task[None] | None = None  # set while it can be cancelled
        self._holders = 0
        self._clock: asyncio.Timeout | None = None
        self.cancel_reason = ""  # from when it has to end
        self.left = False  # goes on elsewhere, or later
        self._settled = run.stop_reason is not None  # it can only end with the answer it has
        self._another = False  # had the same request before: this one never was
        self.errands = 0  # that sub-agents' runs are doing for it
        self.on_record = run.durability is not Durability.NONE  # when it has ended
        self.ended = asyncio.Event()

    def _new_work(self, past: Sequence[RunEvent]) -> Work:
        run, plan = self.run, self.plan
        account = Account(run.tenant, plan.caller.principal, run.agent, run.session, run.tree)
        replay = Replay(past)
        work = Work(plan.caller, account, run, self.journal, replay, self._now, self._sub_runs)
        work.warnings |= replay.warnings
        return work

    # -- from outside ----------------------------------------------------------------------

    def start(self, tasks: asyncio.TaskGroup, on_end: Callable[["Execution"], None]) -> None:
        """From here on the run has its place in its session, and ends whatever happens."""
        if not self._work.replay.running and not self._waited:
            self._place = self._sessions.enter(self._key, self._replaced, self.id)
        tasks.create_task(self._drive(on_end), name=self.run.id)

    @property
    def _waited(self) -> bool:
        """Whether it had its turn, and has it still: the session was kept for it."""
        return self._resumed and self.run.started_at is not None

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
        """Without effect from when the run has come to its end, which is then written; and from
        when its answer is kept, since what is in a conversation is no answer of a cancelled run.

        A run that has not begun yet sees the reason when it does.
        """
        self.cancel_reason = self.cancel_reason or reason
        if self._working is not None and (self.left or not self._settled):
            self._working.cancel()

    def leave_for_later(self) -> None:
        """The process stops. What is on record goes on in the next one, unless somebody has
        cancelled it."""
        if not self.cancel_reason:
            self.left = self.run.durability is Durability.STEP
        self.cancel("the mesh was stopped")

    def lose(self) -> None:
        """Another process works on the run. This one stops, and writes nothing more."""
        self.left = True
        self.cancel("another process has taken the run over")

    @property
    def remaining(self) -> float | None:
        """Seconds until its time is over; None where it is not at work."""
        if self._clock is None or (when := self._clock.when()) is None:
            return None
        return when - asyncio.get_running_loop().time()

    @property
    def asks(self) -> tuple[Ask, ...]:
        """What it needs from outside, and has not got yet."""
        pending = self._work.asks.values()
        return tuple(a for a in pending if self._work.replay.decision(a.call_id) is None)

    async def decide(self, decided: Decided) -> bool:
        """Take what came while the run still works on something else; False: it is too late
        for that, it waits or ends by now."""
        decided, reports = await checked_decision(self.plan.means.rules, decided)
        if self._working is None or self.cancel_reason:
            return False
        call_id = decided.decision.call_id
        if all(ask.call_id != call_id for ask in self.asks):
            raise already_decided(self.run, call_id)
        self._work.replay.decide(decided)
        self.journal.emit(decided)
        for report in reports:
            self.journal.emit(report)
        await self.journal.commit()
        return True

    def snapshot(self) -> Run:
        """The run as it stands now."""
        if self.run.state.terminal or self.run.state.waiting:
            return self.run
        return replace(self.run, **self._so_far(), waiting=self.asks)

    def _so_far(self) -> Json:
        return {
            "answer": self._work.said,
            "usage": self._work.tally.models,
            "iterations": self._work.iterations,
        }

    # -- the run ---------------------------------------------------------------------------

    async def _drive(self, on_end: Callable[["Execution"], None]) -> None:
        with bound_contextvars(run_id=self.run.id, agent=self.run.agent, tenant=self.run.tenant):
            try:
                end = await self._guarded()
                if self.left:
                    await self._leave()
                elif end is None:
                    await self._wait()
                else:
                    await self._finish(end)
            finally:
                if self._place:
                    self._sessions.leave(self._place)
                    self._place = None  # which holds on to us
                on_end(self)
                self.log.close()
                self.ended.set()

    async def _guarded(self) -> End | None:
        """Every way to end becomes a value; None where the run waits. What is cancelled is
        only what happens in here: the end is written whatever comes."""
        clock = self._clock = asyncio.timeout(None if self._settled else self.plan.timeout)
        self._working = asyncio.current_task()
        try:
            if self.cancel_reason and (self.left or not self._settled):
                raise asyncio.CancelledError
            async with clock:
                with span("invoke_agent", self._attributes()):
                    answer = await self._in_turn()
            return answered(answer)
        except Suspended:
            return None
        except Blocked as blocked:
            return stopped_by(blocked.block)
        except TimeoutError as error:
            if clock.expired():
                return End(RunState.TIMED_OUT, StopReason.DEADLINE, self._work.said)
            return self._broken(error)
        except asyncio.CancelledError:
            if self._work.block:
                return stopped_by(self._work.block)
            return End(RunState.CANCELLED, StopReason.CANCELLED, self._work.said)
        except Exception as error:  # a run that breaks must still end
            return self._broken(error)
        finally:
            self._working = None

    def _attributes(self) -> telemetry.Attributes:
        return {
            telemetry.OPERATION: "invoke_agent",
            telemetry.AGENT: self.run.agent,
            telemetry.RUN: self.run.id,
            telemetry.CONVERSATION: self.run.session,
        }

    def _broken(self, error: Exception) -> End:
        if isinstance(error, AstromeshError) and error.reason == "FENCED":
            self.left = True  # its new owner tells how it ends
        return broken(self._work, self.plan.means.rules, error)

    async def _in_turn(self) -> Answer:
        if self.request_hash:  # another process may have had the same request
            await self._be_the_first()
        async with self._turn():
            await self._begin()
            self._check_query()
            self._check_blocked()
            answer = found_again(self.run, self._work)
            if answer is None:
                answer = await self._reasoned(await task_of(self.run, self.plan, self._work))
                if self.plan.keeps:
                    await self._settle(answer)
            await keep(answer, self.run, self.plan, self._work)
            return answer

    async def _settle(self, answer: Answer) -> None:
        """Its turns will be in the conversation: whoever cancels it now, or takes it up after a
        crash, must not end it as if they weren't."""
        self.run = come_to(answer, self.run, self._work)
        await self.journal.come_to(self.run, self.request_hash)
        await asyncio.sleep(0)  # who was faster is heard
        self._settled = True
        if self._clock:
            self._clock.reschedule(None)

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._place is None:  # it had its turn before it stopped or waited
            yield
            return
        async with self._sessions.turn(self._place, self.plan.concurrency):
            await self._line.turn(self.run, self.plan.concurrency, self.journal)
            yield

    async def _reasoned(self, task: Task) -> Answer:
        while True:
            try:
                steps = RecordedSteps(self._work, self.plan.means)
                async with Judging(self._work, self.plan.means).input_judged():
                    return await self.plan.pattern(steps, task)
            except Suspended:
                if not self._work.answered:
                    raise
            # An answer came while another part of the run was at work.
            self._work = self._new_work(self.log.events)
            self._check_blocked()

    def _check_blocked(self) -> None:
        """Whether a rule had ended it before it could be told so."""
        if report := self._work.replay.blocked:
            raise Blocked(self.plan.means.rules.block_of(report))

    async def _be_the_first(self) -> None:
        if (await self.admitted()).id != self.run.id:
            self._another = True
            raise Unavailable(
                "the request had been taken already; send it again to hear what became of it",
                retry_after=1.0,
            )

    def _replaced(self) -> None:
        self.cancel("another run of the session replaced it")

    async def _begin(self) -> None:
        crashed, waited = self._begin_with.crashed, self.run.state is not RunState.RUNNING
        self.run = begun(self.run, self._work, crashed)
        if crashed:  # else the next attempt might use these sequences again
            await self.journal.commit(self.run)
        elif waited:
            self.journal.commit_soon(self.run)

    def _check_query(self) -> None:
        """The rules have seen it before the run was put on record: this tells what they did."""
        asked = self.plan.asked
        for report in asked.reports if asked and not self._resumed else ():
            self.journal.emit(report)
        if self.run.block:
            raise Blocked(self.run.block)

    # -- the end ---------------------------------------------------------------------------

    async def _leave(self) -> None:
        try:
            await self.journal.commit()
        except Exception as error:  # what is not on disk is done again
            _log.warning("left with steps that are not written", error=repr(error))

    async def _wait(self) -> None:
        """Put on record for what the run waits; nothing of it stays in this process."""
        kinds = {ask.kind for ask in self.asks}
        state = next(kind.state for kind in _FIRST if kind in kinds)
        waits = replace(self.run, **self._so_far(), state=state, waiting=self.asks)
        try:
            await self.journal.suspend(waits, self.request_hash)
        except Exception as error:
            _log.error("run could not be left waiting", error=repr(error))
            if self.run.durability is Durability.STEP and self.journal.is_on_record:
                self.left = True
                return
            await self._finish(self._broken(error))  # nobody could take it up
            return
        self.run = waits
        _log.info("run waits", state=state.value, calls=[ask.call_id for ask in self.asks])

    async def _finish(self, end: End) -> None:
        ended = ended_by(end, self.run, self._work)
        if end.state is RunState.CANCELLED and self.cancel_reason:
            self.journal.emit(StateChanged(RunState.CANCELLED, self.cancel_reason))
        if not self._another:
            await put_down(self.plan.telling, ended, self.journal, self.cancel_reason)
        try:
            await self.journal.end(ended, self.request_hash)
        except Exception as error:  # it must not take the other runs along
            _log.error("end of the run not written", error=repr(error))
            if self.run.durability is Durability.STEP and self.journal.is_on_record:
                self.left = True  # the store has it: it goes on when the store can be written
                return
            ended = unwritten(ended, self._broken(error))
            self.journal.abandon(ended)
            self.on_record = False
        self.run = ended
        measured(ended, self._work.tally.tokens)
