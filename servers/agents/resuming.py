"""Goes on with runs that stopped or waited, or says why they can't go on."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import structlog

from servers.agents.catalogue.versions import Versions
from servers.agents.planning import Planner
from servers.agents.ports import Leases, RunStore
from servers.agents.runs.active import ActiveRuns
from servers.agents.runs.calls.deciding import already_decided, settled
from servers.agents.runs.calls.delegating import LOOK_AGAIN
from servers.agents.runs.execution import Execution
from servers.agents.runs.guarding import checked_decision
from servers.agents.runs.memory.telling import Telling, put_down
from servers.agents.runs.plan import Begin, Plan
from servers.agents.runs.record.failure import failure_of
from servers.agents.runs.record.journal import Journal, first_sequence
from servers.agents.runs.record.log import RunLog
from servers.agents.runs.record.replay import Replay
from servers.domain.caller import Caller
from servers.domain.run_events import Decided, Payload, RunEvent, StateChanged
from servers.domain.runs import (
    AskKind,
    Decision,
    Durability,
    Failure,
    Run,
    RunRequest,
    RunState,
    StopReason,
)
from servers.domain.sources import sources_of
from servers.kernel.errors import AstromeshError, NotFound, NotReady, Unavailable

_log = structlog.stdlib.get_logger("astromesh.agents")

_TRIES, _PAUSE = 60, 0.5  # seconds; half a minute in all

GoOn = Callable[[Run, Plan, Begin], Execution]


class Resuming:
    def __init__(
        self,
        versions: Versions,
        planner: Planner,
        store: RunStore,
        leases: Leases,
        active: ActiveRuns,
        go_on: GoOn,
        now: Callable[[], float],
    ) -> None:
        self._versions = versions
        self._planner = planner
        self._store = store
        self._leases = leases
        self._active = active
        self._go_on = go_on
        self._now = now
        self.taking: set[str] = set()  # runs that are this process's, and not at work yet

    async def take_up(self, run: Run, past: Sequence[RunEvent]) -> None:
        """Go on with a run that is this process's since just now: nobody worked on it, or its
        time has come."""
        answered = run.stop_reason is not None  # what it said may be in its conversation
        if run.parent and not answered and await self._orphaned(run):
            run = replace(run, attempt=run.attempt + 1)  # else an earlier telling would stand
            begin = Begin(past, on_record=True, crashed=True)
            end = RunState.CANCELLED, StopReason.CANCELLED
            await self._write_end(
                run, begin, *end, reason="the run that had asked for it has ended"
            )
            return
        if run.state.waiting:
            await self._wake(run, past)
            return
        run = replace(run, attempt=run.attempt + 1)
        if await self._started(run, past, crashed=True):
            _log.info("run goes on after a stop", run_id=run.id, attempt=run.attempt)

    async def _orphaned(self, run: Run) -> bool:
        """Whether nobody is left who could hear what becomes of a sub-agent's run."""
        try:
            return (await self._store.get(run.tenant, run.parent)).state.terminal
        except NotFound:  # forgotten; or not on record yet, which only STEP puts there at once
            return run.durability is Durability.STEP

    async def _wake(self, run: Run, past: Sequence[RunEvent]) -> None:
        due = any(ask.until is not None and ask.until <= self._now() for ask in run.waiting)
        sub_runs = [ask for ask in run.waiting if ask.kind is AskKind.RUN]
        timers = any(ask.kind is AskKind.TIMER for ask in run.waiting)
        if (due and timers) or await self._any_ended(run.tenant, [a.run_id for a in sub_runs]):
            await self._started(run, past, crashed=False)
            return
        later = self._now() + LOOK_AGAIN
        asks = (replace(a, until=later) if a.kind is AskKind.RUN else a for a in run.waiting)
        await self._store.append(run.id, (), replace(run, waiting=tuple(asks)))
        await self._leases.release([run.id])

    async def _any_ended(self, tenant: str, run_ids: Sequence[str]) -> bool:
        for run_id in run_ids:
            try:
                sub_run = await self._store.get(tenant, run_id)
            except NotFound:  # forgotten since
                return True
            if sub_run.state.terminal:
                return True
        return False

    async def _started(self, run: Run, past: Sequence[RunEvent], crashed: bool) -> Execution | None:
        begin = Begin(past, on_record=True, crashed=crashed)
        try:
            plan = await self._plan_again(run)
        except AstromeshError as error:
            if run.stop_reason is None:
                state = RunState.FAILED, StopReason.ERROR
                await self._write_end(run, begin, *state, failure=failure_of(error))
            else:
                await self._write_end(run, begin, RunState.COMPLETED, run.stop_reason)
            _log.warning("run could not go on", run_id=run.id, error=error.message)
            return None
        return self._go_on(run, plan, begin)

    async def _plan_again(self, run: Run) -> Plan:
        """The plan with which the run goes on. Raises what keeps it from going on."""
        whole = run.durability is Durability.STEP or run.stop_reason is not None
        if not (whole or run.state.waiting):
            raise NotReady(
                "the process stopped while the run worked, and at durability "
                f"{run.durability.value!r} nothing of what it had done is on record",
                reason="RUN_LOST",
            )
        agent = await self._versions.of(run)
        deadline = self._left_to_its_parent(run)
        request = RunRequest(
            run.agent, run.query, run.session, context=run.context, deadline=deadline
        )
        work = Caller(run.tenant, run.principal), agent, request, self._versions.finder(run.tenant)
        for _ in range(_TRIES):
            try:
                return await self._planner.plan(*work)
            except Unavailable as error:  # the process of another service comes up later
                _log.warning("waiting for a service", error=error.message)
                await asyncio.sleep(_PAUSE)
        return await self._planner.plan(*work)

    def _left_to_its_parent(self, run: Run) -> float | None:
        """None where that is not at work here: its own time ends a run that nobody hears."""
        parent = self._active.get(run.tenant, run.parent) if run.parent else None
        return parent.remaining if parent else None

    # -- answers -------------------------------------------------------------------------------

    async def decide(self, caller: Caller, run_id: str, decision: Decision) -> Execution:
        """Let a run go on with an answer, once that is on record. Raises what is wrong with it."""
        if execution := self._active.get(caller.tenant, run_id):
            decided = await self._settled(execution.snapshot(), decision, caller)
            if await execution.decide(decided):
                return execution
            await execution.ended.wait()  # it waits by now, or has ended
        run = await self._store.get(caller.tenant, run_id)
        await self._settled(run, decision, caller)
        with self._held(run_id):
            run, past = await self._leases.take(caller.tenant, run_id)
            try:
                decided = await self._settled(run, decision, caller)
                return await self._answered(run, past, decided)
            except BaseException:
                if self._active.get(caller.tenant, run_id) is None:
                    await self._leases.release([run_id])
                raise

    @contextmanager
    def _held(self, run_id: str) -> Iterator[None]:
        """Its lease is kept, and nobody here takes it up a second time."""
        self.taking.add(run_id)
        try:
            yield
        finally:
            self.taking.discard(run_id)

    async def _settled(self, run: Run, decision: Decision, caller: Caller) -> Decided:
        try:
            return settled(run, decision, caller)
        except (NotReady, NotFound):
            if decision.call_id and await self._was_decided(run, decision.call_id):
                raise already_decided(run, decision.call_id) from None
            raise

    async def _was_decided(self, run: Run, call_id: str) -> bool:
        if execution := self._active.get(run.tenant, run.id):
            return _has_decision(execution.log.events, call_id)
        after = 0
        while page := await self._store.events(run.id, after):
            if _has_decision(page, call_id):
                return True
            after = page[-1].sequence
        return False

    async def _answered(self, run: Run, past: Sequence[RunEvent], decided: Decided) -> Execution:
        """The answer is on record before anybody hears that it was taken. Should the process
        stop after that, the run goes on like any other."""
        sequence = first_sequence(run, past, crashed=False)
        plan = await self._plan_again(run)
        decided, reports = await checked_decision(plan.means.rules, decided)
        payloads: tuple[Payload, ...] = (decided, *reports)
        events = [
            RunEvent(run.id, at, self._now(), payload)
            for at, payload in enumerate(payloads, sequence)
        ]
        call_id = decided.decision.call_id
        rest = tuple(ask for ask in run.waiting if ask.call_id != call_id)
        working = replace(run, state=RunState.RUNNING, waiting=rest)
        await self._store.append(run.id, events, working)
        return self._go_on(run, plan, Begin((*past, *events), on_record=True))

    # -- the runs of sub-agents ----------------------------------------------------------------

    async def after(self, run: Run) -> None:
        """A run has come to rest: its parent may go on, or it waits for one that has ended."""
        try:
            if run.parent and run.state.terminal:
                await self._wake_parent(run)
            elif run.state is RunState.WAITING_RUN or any(
                ask.kind is AskKind.RUN for ask in run.waiting
            ):
                await self._look_after(run.tenant, run.id)
        except AstromeshError as error:  # it looks again by itself
            _log.warning("run not woken", run_id=run.id, error=error.message)

    async def _wake_parent(self, run: Run) -> None:
        if parent := self._active.get(run.tenant, run.parent):
            await parent.ended.wait()
            if parent.run.state.terminal:
                return
        await self._look_after(run.tenant, run.parent)

    async def _look_after(self, tenant: str, run_id: str) -> None:
        run = await self._store.get(tenant, run_id)
        subs = [ask.run_id for ask in run.waiting if ask.kind is AskKind.RUN]
        if run.state.waiting and subs and await self._any_ended(tenant, subs):
            with self._held(run_id):
                try:
                    run, past = await self._leases.take(tenant, run_id)
                except NotReady:  # somebody was faster
                    return
                await self._started(run, past, crashed=False)

    # -- the end of a run that waits ------------------------------------------------------------

    async def end(self, tenant: str, run_id: str, reason: str) -> Run:
        """Cancel a run that waits, and the runs it waits for. Raises NotReady where it has gone
        on meanwhile."""
        run, past = await self._leases.take(tenant, run_id)
        for ask in run.waiting:
            if ask.kind is AskKind.RUN:
                await self._end_sub_run(tenant, ask.run_id, reason)
        begin = Begin((*past,), on_record=True)
        return await self._write_end(
            run, begin, RunState.CANCELLED, StopReason.CANCELLED, reason=reason
        )

    async def _end_sub_run(self, tenant: str, run_id: str, reason: str) -> None:
        try:
            await self.end(tenant, run_id, reason)
        except (NotReady, NotFound):  # it does not wait
            if execution := self._active.get(tenant, run_id):
                execution.cancel(reason)
            else:
                await self._leases.ask_cancel(tenant, run_id, reason)

    async def _write_end(
        self,
        run: Run,
        begin: Begin,
        state: RunState,
        stop: StopReason,
        failure: Failure | None = None,
        reason: str = "",
    ) -> Run:
        """End a run that nobody works on."""
        ended = replace(
            run,
            state=state,
            stop_reason=stop,
            failure=failure,
            waiting=(),
            sources=sources_of(run.answer, Replay(begin.past).sources),
            ended_at=self._now(),
        )
        # Readers may have seen events that are not on record: the end must come after those.
        first = first_sequence(run, begin.past, begin.crashed)
        journal = Journal(
            RunLog(run.id, self._now, begin.past, first),
            self._store,
            Durability.STEP,
            on_record=True,
        )
        if reason:
            journal.emit(StateChanged(state, reason))
        await put_down(await self._telling(run), ended, journal, reason)
        await journal.end(ended, "")
        await self.after(ended)
        return ended

    async def _telling(self, run: Run) -> Telling | None:
        try:
            return self._planner.telling(await self._versions.of(run))
        except AstromeshError as error:  # its agent is gone: nobody knows where
            _log.warning("episodes not kept", run_id=run.id, error=error.message)
            return None


def _has_decision(events: Sequence[RunEvent], call_id: str) -> bool:
    decisions = (e.payload.decision for e in events if isinstance(e.payload, Decided))
    return any(decision.call_id == call_id for decision in decisions)
