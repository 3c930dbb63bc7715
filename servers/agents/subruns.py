"""Starts, awaits and cancels the runs of sub-agents. Satisfies `runs.work.SubRuns`."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

from servers.agents.catalogue.catalogue import Catalogue
from servers.agents.catalogue.teams import MOST_DEPTH, too_deep
from servers.agents.following import Following
from servers.agents.manifest import Agent
from servers.agents.runs.active import ActiveRuns
from servers.agents.runs.execution import Execution
from servers.agents.runs.work import Errand
from servers.domain.caller import Caller
from servers.domain.chat import Usage
from servers.domain.runs import Parentage, Run, RunRequest
from servers.kernel.errors import AstromeshError, Unavailable

MOST_SESSION = 256  # characters

Start = Callable[[Caller, RunRequest], Awaitable[Execution | Run]]
End = Callable[[str, str, str], Awaitable[Run | None]]  # tenant, run id, reason


class SubAgentRuns:
    def __init__(
        self, catalogue: Catalogue, active: ActiveRuns, following: Following, start: Start, end: End
    ) -> None:
        self._catalogue = catalogue
        self._active = active
        self._following = following
        self._start = start
        self._end = end

    async def done(
        self, caller: Caller, parent: Run, errand: Errand, begun: Callable[[Run], None]
    ) -> Run:
        run_id = errand.known
        try:
            with self._waiting(parent):
                run = await self._begun(caller, parent, errand)
                run_id = run.id
                begun(run)
                return await self._following.settled(run.tenant, run.id)
        except asyncio.CancelledError:
            await self._end_with(parent, errand.call_id, run_id)
            raise
        except Unavailable:  # this process stops: the parent must not hear it as an answer
            self.check_wanted(parent.tenant, parent.id)
            raise

    async def used(self, parent: Run) -> Usage:
        runs = await self._following.tree(parent.tenant, parent.tree)
        total, above = Usage(cost_usd=0.0), [parent.id]
        while above:
            below = [run for run in runs if run.parent in above]
            total = sum((run.total for run in below), total)
            above = [run.id for run in below]
        return total

    @contextmanager
    def _waiting(self, parent: Run) -> Iterator[None]:
        """Meanwhile the parent does nothing itself, or other errands."""
        execution = self._active.get(parent.tenant, parent.id)
        if execution is None:
            raise asyncio.CancelledError
        execution.errands += 1
        try:
            yield
        finally:
            execution.errands -= 1

    def check_wanted(self, tenant: str, parent: str) -> None:
        """Raises CancelledError where the parent is about to end, or to be left: it will not
        hear of the errand any more."""
        execution = self._active.get(tenant, parent)
        if execution is None or execution.cancel_reason:
            raise asyncio.CancelledError

    # -- the start -----------------------------------------------------------------------------

    async def _begun(self, caller: Caller, parent: Run, errand: Errand) -> Run:
        if errand.known:
            return await self._following.get(parent.tenant, errand.known)
        if parent.depth >= MOST_DEPTH:
            raise too_deep(errand.agent)
        agent = await self._catalogue.runnable(parent.tenant, errand.agent)
        started = await self._start(caller, self._request(agent, parent, errand))
        return started if isinstance(started, Run) else started.run

    def _request(self, agent: Agent, parent: Run, errand: Errand) -> RunRequest:
        return RunRequest(
            agent.name,
            errand.query,
            _session(parent.session, errand.tool) if agent.conversation else "",
            # The parent may go on after a crash and ask again: it finds the same run.
            request_id=f"{parent.id}/{errand.call_id}",
            context=parent.context,
            durability=parent.durability,
            deadline=self._deadline(parent, errand),
            parent=Parentage(parent.id, errand.call_id, parent.tree, parent.depth + 1),
        )

    def _deadline(self, parent: Run, errand: Errand) -> float | None:
        execution = self._active.get(parent.tenant, parent.id)
        left = (execution.remaining if execution else None, errand.timeout)
        return min((seconds for seconds in left if seconds is not None), default=None)

    # -- the end -------------------------------------------------------------------------------

    async def _end_with(self, parent: Run, call_id: str, run_id: str) -> None:
        """The parent has been cancelled, or has broken. Where it goes on elsewhere or later,
        so does the errand."""
        execution = self._active.get(parent.tenant, parent.id)
        if execution is None or execution.left:
            return
        reason = execution.cancel_reason or "the run that had asked for it has ended"
        for each in self._active:
            if (each.run.parent, each.run.parent_call) == (parent.id, call_id):
                each.cancel(reason)
                await each.ended.wait()
                return
        if run_id:
            with suppress(AstromeshError):  # it has ended, or will: who takes it up looks
                await self._end(parent.tenant, run_id, reason)


def _session(parent: str, tool: str) -> str:
    """The conversation of a sub-agent belongs to that of its parent."""
    session = f"{parent}/{tool}"
    if len(session) <= MOST_SESSION:
        return session
    return hashlib.sha256(session.encode()).hexdigest()
