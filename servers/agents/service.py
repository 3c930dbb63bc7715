"""Declares agents and runs them. Satisfies `servers.domain.services.Agents`.

The runtime owns every run of its process: entering it takes up what a crashed process
left behind, leaving it waits for the runs and then stops them.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from servers.agents.admission import Told, new_run, request_hash, validated
from servers.agents.background.keeper import Keeper
from servers.agents.background.webhooks import NO_WEBHOOKS, Policy
from servers.agents.catalogue.catalogue import Catalogue
from servers.agents.catalogue.versions import Versions
from servers.agents.deleting import Deleting, Unlearn, nothing_to_unlearn
from servers.agents.following import Following, stopped
from servers.agents.graphs.drawing import Drawing
from servers.agents.launching import Launching, joined
from servers.agents.planning import Planner
from servers.agents.ports import Leases, RunStore, RunTrees
from servers.agents.resuming import Resuming
from servers.agents.runs.active import ActiveRuns
from servers.agents.runs.execution import Execution
from servers.agents.runs.line import Line
from servers.agents.runs.record.failure import error_of
from servers.agents.runs.record.journal import STEP_SECONDS
from servers.agents.runs.record.writes import TimedWrites
from servers.agents.runs.sessions import Sessions
from servers.agents.subruns import SubAgentRuns
from servers.domain.agents import AgentPage, AgentRecord
from servers.domain.caller import Caller
from servers.domain.chat import Json
from servers.domain.graphs import Graph
from servers.domain.run_events import RunEvent
from servers.domain.runs import (
    Decision,
    Durability,
    OnDisconnect,
    Purged,
    Run,
    RunFilter,
    RunPage,
    RunRequest,
    RunSelection,
)
from servers.kernel.errors import NotReady, Unavailable


@dataclass(frozen=True, slots=True)
class Limits:
    active_runs: int = 1000
    tenant_runs: int | None = None  # of these, of one tenant; None: as many as there may be
    drain_seconds: float = 10.0  # that runs get when the mesh stops
    kept_runs: int = 256  # ended runs without durability that can still be asked for
    stuck_seconds: float = 10.0  # for one write of the store; then it gets no new runs
    step_seconds: float = STEP_SECONDS  # that steps which can be taken again wait to be written


class AgentRuntime:
    def __init__(
        self,
        catalogue: Catalogue,
        planner: Planner,
        versions: Versions,
        store: RunStore,
        leases: Leases,
        trees: RunTrees,
        now: Callable[[], float],
        new_id: Callable[[], str],
        limits: Limits = Limits(),  # frozen
        webhooks: Policy = NO_WEBHOOKS,
        unlearn: Unlearn = nothing_to_unlearn,
    ) -> None:
        self._catalogue = catalogue
        self._planner = planner
        self._versions = versions
        self._store = store
        self._leases = leases
        self._now = now
        self._new_id = new_id
        self._limits = limits
        self._webhooks = webhooks
        self._active = ActiveRuns(limits.active_runs, limits.tenant_runs, limits.kept_runs)
        self._sessions = Sessions()
        self._line = Line(store, self._sessions, self._end)
        self._following = Following(self._active, store, lambda: self._stopping)
        self._drawing = Drawing(catalogue, self._following)
        self._sub_runs = SubAgentRuns(
            catalogue, self._active, self._following, self._errand, self._end
        )
        self._tasks = asyncio.TaskGroup()
        self._writes = TimedWrites(store, limits.stuck_seconds)
        here = self._active, self._sessions, self._line, self._writes, now, self._sub_runs
        self._launching = Launching(*here, self._tasks, self._ended, limits.step_seconds)
        self._resuming = Resuming(
            versions, planner, store, leases, self._active, self._launching.go_on, now
        )
        resuming = self._resuming
        self._keeper = Keeper(
            leases, self._active, resuming.take_up, lambda: self._stopping, resuming.taking
        )
        self._deleting = Deleting(trees, self._active, self._following, self._end, unlearn)
        self._keeping: asyncio.Task[None] | None = None
        self._stopping = False
        self._left: set[str] = set()  # runs that the next process goes on with

    async def __aenter__(self) -> Self:
        await self._tasks.__aenter__()
        try:
            await self._keeper.first()
        except BaseException:
            await self._close()
            raise
        self._keeping = asyncio.create_task(self._keeper.keep(self._tasks))
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
        self._keeper.stop()
        if self._keeping:
            self._keeping.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeping
        self._leave_all()
        # Our runs end. The group would wrap what went wrong outside of them.
        await self._tasks.__aexit__(None, None, None)
        if self._leases.shared:
            await self._leases.release(self._left)

    async def drain(self, hurry: bool = False) -> None:
        """Take no new runs, and give those at work some seconds to end. What is on record
        is then left for the next process; the rest is cancelled."""
        self._stopping = True
        if not await self._active.drained(0.0 if hurry else self._limits.drain_seconds):
            self._leave_all()

    def _leave_all(self) -> None:
        for execution in self._active:
            self._left.add(execution.id)
            execution.leave_for_later()

    # -- runs ------------------------------------------------------------------------------

    async def run(self, caller: Caller, request: RunRequest) -> Run:
        execution = await self._start(caller, request, Told.AT_THE_END, OnDisconnect.CANCEL)
        if isinstance(execution, Run):
            return _raised(await self._following.at_rest(execution))
        with execution.watched(OnDisconnect.CANCEL):
            await execution.ended.wait()
            return _raised(await self._outcome(execution))

    async def _outcome(self, execution: Execution) -> Run:
        """How the run ended, or for what it waits: here, or where it went on."""
        if self._stopping and not execution.run.state.terminal:
            raise stopped(execution.id)
        return await self._following.at_rest(execution.run)

    async def stream(
        self,
        caller: Caller,
        request: RunRequest,
        on_disconnect: OnDisconnect | None = None,
    ) -> AsyncGenerator[RunEvent, None]:
        execution = await self._start(caller, request, Told.AT_ONCE, on_disconnect)
        if isinstance(execution, Run):
            source = self._following.events(caller.tenant, execution.id, to_the_end=False)
            async with aclosing(source) as events:
                async for event in events:
                    yield event
            return
        with execution.watched(on_disconnect or execution.plan.on_disconnect):
            async with aclosing(self._following.of(execution)) as events:
                async for event in events:
                    yield event

    async def create_run(self, caller: Caller, request: RunRequest) -> Run:
        # Whoever has named his request will ask again, should he leave before he has heard.
        leaving = OnDisconnect.CONTINUE if request.request_id else OnDisconnect.CANCEL
        execution = await self._start(caller, request, Told.IN_BACKGROUND, leaving)
        return execution if isinstance(execution, Run) else execution.snapshot()

    async def get_run(self, caller: Caller, run_id: str) -> Run:
        return await self._following.get(caller.tenant, run_id)

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
        self, caller: Caller, run_id: str, after_sequence: int = 0, past_only: bool = False
    ) -> AsyncGenerator[RunEvent, None]:
        past = self._following.so_far if past_only else self._following.events
        source = past(caller.tenant, run_id, after_sequence)
        async with aclosing(source) as events:
            async for event in events:
                yield event

    async def cancel(self, caller: Caller, run_id: str, reason: str = "") -> Run:
        reason = reason or "somebody cancelled it"
        run = await self._end(caller.tenant, run_id, reason)
        if run is None:
            run = await self.get_run(caller, run_id)
            raise NotReady(
                f"run {run_id!r} has ended already: {run.state.value}",
                reason="RUN_ENDED",
                run_id=run_id,
                state=run.state.value,
            )
        return run

    async def delete_run(self, caller: Caller, run_id: str, force: bool = False) -> None:
        await self._deleting.one(caller.tenant, run_id, force)

    async def purge_runs(
        self,
        caller: Caller,
        which: RunSelection,
        *,
        force: bool = False,
        validate_only: bool = False,
    ) -> Purged:
        return await self._deleting.all(caller.tenant, which, force, validate_only)

    async def resume(
        self, caller: Caller, run_id: str, decision: Decision, wait: bool = False
    ) -> Run:
        self._check_open(caller)
        execution = await self._resuming.decide(caller, run_id, decision)
        if not wait:
            return execution.snapshot()
        await execution.ended.wait()
        return _raised(await self._outcome(execution))

    async def run_tree(self, caller: Caller, run_id: str) -> Graph:
        return await self._drawing.run(caller.tenant, run_id)

    # -- agents ----------------------------------------------------------------------------

    async def agent_graph(self, caller: Caller, name: str) -> Graph:
        return await self._drawing.agent(caller.tenant, name)

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
        self._check_open(caller, request)
        validated(request)
        self._webhooks.check(request.webhook)
        digest = request_hash(request)
        if seen := await self._seen(caller.tenant, request.request_id, digest):
            return await joined(seen, leaving)
        agent = await self._catalogue.runnable(caller.tenant, request.agent)
        recorded = (request.durability or agent.durability) is not Durability.NONE
        if recorded and not request.parent:  # an errand waits with the run that has it done
            self._writes.check()
        find = self._catalogue.finder(caller.tenant)
        plan = await self._planner.plan(caller, agent, request, find)
        version = await self._versions.keep(agent)
        taken = await self._line.taken(caller.tenant, agent.name, request.session)
        run = new_run(caller, agent, request, self._new_id(), self._now(), version)
        # From here to the run's place among the active ones nothing is awaited: of two
        # requests with one request_id the second finds the first.
        self._check_open(caller, request)
        if seen := self._active.requested(caller.tenant, request.request_id, digest):
            return await joined(seen, leaving)
        self._active.admit(run.tenant)
        execution = self._launching.launched(run, plan, digest, told, taken)
        return await joined(execution, leaving)

    async def _errand(self, caller: Caller, request: RunRequest) -> Execution | Run:
        """A sub-agent's run. `SubAgentRuns` ends it with its parent."""
        return await self._start(caller, request, Told.AT_THE_END, OnDisconnect.CONTINUE)

    def _check_open(self, caller: Caller, request: RunRequest | None = None) -> None:
        if request and request.parent:  # as long as that one works, it may ask others, too
            self._sub_runs.check_wanted(caller.tenant, request.parent.run_id)
        elif self._stopping:
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

    # -- how a run goes on, and ends -------------------------------------------------------

    def _ended(self, execution: Execution) -> None:
        self._active.remove(execution)
        if not self._stopping:
            self._keeper.came_to_rest(execution.run)
            if execution.run.parent or execution.run.waiting:
                self._tasks.create_task(self._resuming.after(execution.run))

    async def _end(self, tenant: str, run_id: str, reason: str) -> Run | None:
        """Cancel a run, whoever works on it, and return it when it has ended; None where it
        had ended before. Its sub-agents' runs end with it."""
        if execution := self._active.get(tenant, run_id):
            execution.cancel(reason)
            await execution.ended.wait()
            run = await self._outcome(execution)
        else:
            run = await self._following.get(tenant, run_id)
            if run.state.terminal:
                return None
        if run.state.terminal:
            return run
        if run.state.waiting:
            return await self._resuming.end(tenant, run_id, reason)
        await self._leases.ask_cancel(tenant, run_id, reason)
        return await self._following.settled(tenant, run_id)


def _raised(run: Run) -> Run:
    """A run as the answer of RunAgent: one that failed is its error."""
    if run.failure is not None:
        raise error_of(run.failure, run_id=run.id)
    return run
