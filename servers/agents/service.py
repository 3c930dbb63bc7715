"""Declares agents and runs them. Satisfies `servers.domain.services.Agents`.

The runtime owns every run of its process: entering it takes up what a crashed process
left behind, leaving it waits for the runs and then stops them.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

import structlog

from servers.agents.admission import Told, new_run, request_hash, to_be_admitted, validated
from servers.agents.catalogue import Catalogue
from servers.agents.planning import Planner
from servers.agents.ports import Leases, RunStore
from servers.agents.resuming import give_up, plan_again
from servers.agents.runs.active import ActiveRuns
from servers.agents.runs.execution import Execution
from servers.agents.runs.failure import error_of
from servers.agents.runs.sessions import Sessions
from servers.domain.agents import AgentPage, AgentRecord
from servers.domain.caller import Caller
from servers.domain.chat import Json
from servers.domain.memory import SessionKey
from servers.domain.runs import (
    Durability,
    OnDisconnect,
    Run,
    RunEvent,
    RunFilter,
    RunPage,
    RunRequest,
    RunState,
)
from servers.kernel.errors import (
    AstromeshError,
    InvalidInput,
    NotReady,
    Unavailable,
    Violation,
)

_log = structlog.stdlib.get_logger("astromesh.agents")

_ALL = 1_000_000  # runs that are taken up at the start


@dataclass(frozen=True, slots=True)
class Limits:
    active_runs: int = 1000
    drain_seconds: float = 10.0  # that runs get when the mesh stops


class AgentRuntime:
    def __init__(
        self,
        catalogue: Catalogue,
        planner: Planner,
        store: RunStore,
        leases: Leases,
        now: Callable[[], float],
        new_id: Callable[[], str],
        limits: Limits = Limits(),  # frozen
    ) -> None:
        self._catalogue = catalogue
        self._planner = planner
        self._store = store
        self._leases = leases
        self._now = now
        self._new_id = new_id
        self._limits = limits
        self._active = ActiveRuns(limits.active_runs)
        self._sessions = Sessions()
        self._tasks = asyncio.TaskGroup()
        self._stopping = False

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        try:
            for run, past in await self._leases.claim((), _ALL):
                await self._take_up(run, past)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            await self.drain()
        finally:  # also where somebody is in too much of a hurry to drain
            await self._close()

    async def _close(self) -> None:
        self._stopping = True
        self._leave_all()
        # Our runs end. The group would wrap what went wrong outside of them.
        await self._tasks.__aexit__(None, None, None)

    async def drain(self, hurry: bool = False) -> None:
        """Take no new runs, and give those at work some seconds to end. What is on record
        is then left for the next process; the rest is cancelled."""
        self._stopping = True
        if not await self._active.drained(0.0 if hurry else self._limits.drain_seconds):
            self._leave_all()

    def _leave_all(self) -> None:
        for execution in self._active:
            execution.leave_for_later()

    # -- runs ------------------------------------------------------------------------------

    async def run(self, caller: Caller, request: RunRequest) -> Run:
        execution = await self._start(caller, request, Told.AT_THE_END, OnDisconnect.CANCEL)
        if isinstance(execution, Run):
            return _raised(execution)
        with execution.watched(OnDisconnect.CANCEL):
            await execution.ended.wait()
        self._check_ended(execution)
        return _raised(execution.run)

    async def stream(
        self,
        caller: Caller,
        request: RunRequest,
        on_disconnect: OnDisconnect | None = None,
    ) -> AsyncGenerator[RunEvent, None]:
        execution = await self._start(caller, request, Told.AT_ONCE, on_disconnect)
        if isinstance(execution, Run):
            async with aclosing(self.events(caller, execution.id)) as events:
                async for event in events:
                    yield event
            return
        with execution.watched(on_disconnect or execution.plan.on_disconnect):
            async with aclosing(self._follow(execution, 0)) as events:
                async for event in events:
                    yield event

    async def create_run(self, caller: Caller, request: RunRequest) -> Run:
        # Whoever has named his request will ask again, should he leave before he has heard.
        leaving = OnDisconnect.CONTINUE if request.request_id else OnDisconnect.CANCEL
        execution = await self._start(caller, request, Told.IN_BACKGROUND, leaving)
        return execution if isinstance(execution, Run) else execution.snapshot()

    async def get_run(self, caller: Caller, run_id: str) -> Run:
        if execution := self._active.get(caller.tenant, run_id):
            return execution.snapshot()
        if kept := self._active.kept(caller.tenant, run_id):
            return kept.run
        return await self._store.get(caller.tenant, run_id)

    async def list_runs(
        self, caller: Caller, where: RunFilter, page_size: int = 0, page_token: str = ""
    ) -> RunPage:
        for active in self._active:
            await active.journal.on_record()
        page = await self._store.list(caller.tenant, where, page_size, page_token)
        return RunPage(tuple(map(self._up_to_date, page.runs)), page.next_page_token)

    def _up_to_date(self, stored: Run) -> Run:
        if execution := self._active.get(stored.tenant, stored.id):
            return execution.snapshot()
        kept = self._active.kept(stored.tenant, stored.id)  # its end could not be written
        return kept.run if kept else stored

    async def events(
        self, caller: Caller, run_id: str, after_sequence: int = 0
    ) -> AsyncGenerator[RunEvent, None]:
        if after_sequence < 0:
            wrong = Violation("after_sequence", "is a position in the log, 0 or more")
            raise InvalidInput(
                f"{wrong.field} {wrong.description}",
                reason="INVALID_REQUEST",
                violations=(wrong,),
            )
        if execution := self._active.get(caller.tenant, run_id):
            source = self._follow(execution, after_sequence)
        elif kept := self._active.kept(caller.tenant, run_id):
            source = _replayed(kept.events, after_sequence)
        else:
            await self._store.get(caller.tenant, run_id)  # NotFound for a stranger's
            source = self._stored_events(run_id, after_sequence)
        async with aclosing(source) as events:
            async for event in events:
                yield event

    async def cancel(self, caller: Caller, run_id: str, reason: str = "") -> Run:
        if execution := self._active.get(caller.tenant, run_id):
            execution.cancel(reason or "somebody cancelled it")
            await execution.ended.wait()
            self._check_ended(execution)
            return execution.run
        run = await self.get_run(caller, run_id)
        raise NotReady(
            f"run {run_id!r} has ended already: {run.state.value}",
            reason="RUN_ENDED",
            run_id=run_id,
            state=run.state.value,
        )

    # -- agents ----------------------------------------------------------------------------

    async def list(self, caller: Caller, page_size: int = 0, page_token: str = "") -> AgentPage:
        return await self._catalogue.list(caller.tenant, page_size, page_token)

    async def get(self, caller: Caller, name: str) -> AgentRecord:
        return await self._catalogue.get(caller.tenant, name)

    async def create(
        self, caller: Caller, manifest: Json, validate_only: bool = False
    ) -> AgentRecord:
        return await self._catalogue.create(caller.tenant, manifest, validate_only)

    async def update(
        self,
        caller: Caller,
        manifest: Json,
        *,
        fields: Sequence[str] = (),
        etag: str = "",
        allow_missing: bool = False,
        validate_only: bool = False,
    ) -> AgentRecord:
        return await self._catalogue.update(
            caller.tenant,
            manifest,
            fields=fields,
            etag=etag,
            allow_missing=allow_missing,
            validate_only=validate_only,
        )

    async def delete(
        self, caller: Caller, name: str, etag: str = "", validate_only: bool = False
    ) -> None:
        await self._catalogue.delete(caller.tenant, name, etag, validate_only)

    # -- how a run starts ------------------------------------------------------------------

    async def _start(
        self,
        caller: Caller,
        request: RunRequest,
        told: Told,
        leaving: OnDisconnect | None,
    ) -> Execution | Run:
        """The run at work for a request; or, where the request was seen before, what it is.

        `leaving` says what becomes of the run when its caller leaves before this returns.
        """
        self._check_open()
        validated(request)
        digest = request_hash(request)
        if seen := await self._seen(caller.tenant, request.request_id, digest):
            return await self._joined(seen, leaving)
        agent = await self._catalogue.runnable(caller.tenant, request.agent)
        plan = await self._planner.plan(caller, agent, request)
        run = new_run(caller, agent, request, self._new_id(), self._now())
        # From here to the run's place among the active ones nothing is awaited: of two
        # requests with one request_id the second finds the first.
        self._check_open()
        if seen := self._active.requested(caller.tenant, request.request_id, digest):
            return await self._joined(seen, leaving)
        self._active.admit()
        key = SessionKey(run.tenant, run.agent, run.session)
        self._sessions.admit(key, plan.concurrency)
        if self._sessions.busy(key):
            run = replace(run, state=RunState.QUEUED, started_at=None)
        execution = Execution(run, plan, self._sessions, self._now, self._store)
        execution.request_hash = digest
        self._active.add(execution)
        if to_be_admitted(run, told):
            execution.admit()
        elif run.durability is Durability.STEP:
            execution.admit_later()
        execution.start(self._tasks, self._active.remove)
        return await self._joined(execution, leaving)

    def _check_open(self) -> None:
        if self._stopping:
            raise Unavailable(
                "the mesh is stopping; try again soon", reason="SHUTTING_DOWN", retry_after=1.0
            )

    async def _seen(self, tenant: str, request_id: str, digest: str) -> Execution | Run | None:
        if not request_id:
            return None
        if active := self._active.requested(tenant, request_id, digest):
            return active
        stored = await self._store.requested(tenant, request_id, digest)
        if stored is None:
            return None
        return self._active.get(tenant, stored.id) or self._up_to_date(stored)

    async def _joined(self, seen: Execution | Run, leaving: OnDisconnect | None) -> Execution | Run:
        """Return when the run is on record, where it is to be. Its caller then holds it."""
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

    async def _take_up(self, run: Run, past: Sequence[RunEvent]) -> None:
        """Go on with a run whose process stopped."""
        run = replace(run, attempt=run.attempt + 1)
        try:
            plan = await plan_again(run, self._catalogue, self._planner)
        except AstromeshError as error:
            await give_up(run, past, error, self._store, self._now)
            return
        execution = Execution(run, plan, self._sessions, self._now, self._store, past)
        execution.hold()  # it goes on without its callers
        self._active.add(execution)
        execution.start(self._tasks, self._active.remove)
        _log.info("run goes on after a stop", run_id=run.id, attempt=run.attempt)

    # -- how a run is watched --------------------------------------------------------------

    async def _follow(self, execution: Execution, after: int) -> AsyncGenerator[RunEvent, None]:
        async with aclosing(execution.log.follow(after)) as events:
            async for event in events:
                yield event
        self._check_ended(execution)

    async def _stored_events(self, run_id: str, after: int) -> AsyncGenerator[RunEvent, None]:
        while page := await self._store.events(run_id, after):
            for event in page:
                yield event
            after = page[-1].sequence

    def _check_ended(self, execution: Execution) -> None:
        if not execution.run.state.terminal:
            raise Unavailable(
                "the mesh was stopped; the run goes on when it is started again",
                reason="MESH_STOPPED",
                run_id=execution.run.id,
            )


def _raised(run: Run) -> Run:
    """A run as the answer of RunAgent: one that failed is its error."""
    if run.failure is not None:
        raise error_of(run.failure, run_id=run.id)
    return run


async def _replayed(events: Sequence[RunEvent], after: int) -> AsyncGenerator[RunEvent, None]:
    for event in events:
        if event.sequence > after:
            yield event
