"""Puts runs to work in this process: new ones, and those that go on."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from servers.agents.admission import Told, to_be_admitted
from servers.agents.runs.active import ActiveRuns
from servers.agents.runs.execution import Execution
from servers.agents.runs.line import Line
from servers.agents.runs.plan import FRESH, Begin, Plan
from servers.agents.runs.record.writes import RunWriter
from servers.agents.runs.sessions import Sessions
from servers.agents.runs.work import SubRuns
from servers.domain.memory import SessionKey
from servers.domain.runs import Durability, OnDisconnect, Run, RunState


@dataclass(frozen=True, slots=True)
class Launching:
    active: ActiveRuns
    sessions: Sessions
    line: Line
    store: RunWriter
    now: Callable[[], float]
    sub_runs: SubRuns
    tasks: asyncio.TaskGroup
    on_end: Callable[[Execution], None]
    step_seconds: float  # that steps which can be taken again may wait to be written

    def launched(self, run: Run, plan: Plan, digest: str, told: Told, taken: bool) -> Execution:
        """A new run. `taken`: a run that is not at work here has its session."""
        run = plan.screened(run)
        key = SessionKey(run.tenant, run.agent, run.session)
        self.sessions.admit(key, plan.concurrency, taken)
        if taken or self.sessions.busy(key):
            run = replace(run, state=RunState.QUEUED, started_at=None)
        execution = self._execution(run, plan, FRESH)
        execution.request_hash = digest
        self.active.add(execution)
        if to_be_admitted(run, told):
            execution.admit()
        elif run.durability is Durability.STEP:
            execution.admit_later()
        execution.start(self.tasks, self.on_end)
        return execution

    def go_on(self, run: Run, plan: Plan, begin: Begin) -> Execution:
        """A run that stopped or waited; it goes on without its callers."""
        execution = self._execution(run, plan, begin)
        execution.hold()
        self.active.add(execution)
        execution.start(self.tasks, self.on_end)
        return execution

    def _execution(self, run: Run, plan: Plan, begin: Begin) -> Execution:
        here = self.sessions, self.line, self.now, self.store, self.sub_runs
        return Execution(run, plan, *here, begin, self.step_seconds)


async def joined(seen: Execution | Run, leaving: OnDisconnect | None) -> Execution | Run:
    """Return when the run is on record, where it is to be. Its caller then holds it.

    `leaving`: what becomes of the run when he leaves before; None: as its agent says.
    """
    if isinstance(seen, Run):
        return seen
    seen.hold()
    try:
        stored = await seen.admitted()
    except asyncio.CancelledError:
        seen.let_go(leaving or seen.plan.on_disconnect)
        raise
    except Exception:
        seen.cancel("it could not be put on record")
        raise
    return seen if stored.id == seen.id else stored
