"""Deletes runs that have ended: each with its whole tree, its log, what it has left to be
learned, and what only memory knows of it."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from typing import Final, TypeAlias

import structlog

from servers.agents.following import Following
from servers.agents.ports import RunTrees
from servers.agents.runs.active import ActiveRuns
from servers.domain.runs import Purged, Run, RunSelection
from servers.kernel import telemetry
from servers.kernel.errors import InvalidInput, NotFound, NotReady, Violation

End: TypeAlias = Callable[[str, str, str], Awaitable[Run | None]]  # tenant, run id, reason
Unlearn: TypeAlias = Callable[[Collection[str]], Awaitable[None]]  # ids of runs

_AT_ONCE: Final = 100  # trees in one commit: others want to write in between
_REASON: Final = "it is deleted"
_TRIES, _PAUSE = 20, 0.1  # seconds, for a run that goes on just when it is to end

_log = structlog.stdlib.get_logger("astromesh.agents")


async def nothing_to_unlearn(run_ids: Collection[str]) -> None:
    """Of runs that leave nothing to be learned."""


class Deleting:
    def __init__(
        self, trees: RunTrees, active: ActiveRuns, following: Following, end: End, unlearn: Unlearn
    ) -> None:
        """`end` cancels a run, and returns when it has ended."""
        self._trees, self._active, self._following = trees, active, following
        self._end, self._unlearn = end, unlearn
        self._wiped = False  # whether files have nothing of what was deleted; not known at first

    async def one(self, tenant: str, run_id: str, force: bool) -> None:
        try:
            run = await self._following.get(tenant, run_id)
        except NotFound:
            if not self._wiped:  # who asks again after STORAGE_BUSY, or a crash, is to be sure
                await self._wipe()
            raise
        if run.parent:
            await self._check_orphaned(run)
        with telemetry.span("delete runs", {telemetry.RUN: run_id}):
            if force:
                await self._ended(tenant, run.tree)
            deleted = await self._delete(tenant, [run.tree])
            if not deleted:
                raise _not_ended(await self._following.get(tenant, run_id))
            await self._wipe()
        self._tell(deleted, 0)

    async def _check_orphaned(self, run: Run) -> None:
        with suppress(NotFound):
            await self._following.get(run.tenant, run.tree)
            raise NotReady(
                f"run {run.id!r} is a tool call of run {run.parent!r}, and is deleted with the "
                f"first run of its tree: delete {run.tree!r}",
                reason="RUN_IS_PART",
                run_id=run.id,
                root_run_id=run.tree,
            )

    async def all(
        self, tenant: str, which: RunSelection, force: bool, validate_only: bool
    ) -> Purged:
        _check(which)
        with telemetry.span("delete runs") as traced:
            if validate_only:
                return await self._counted(tenant, which, force)
            if force:
                for root in self._at_work(tenant, which):  # not all are on record
                    await self._ended(tenant, root)
            left = set(self._at_work(tenant, which))
            deleted, after = 0, ""
            while roots := await self._trees.roots(tenant, which, after, _AT_ONCE):
                after = roots[-1]
                if force:
                    open_ones = set((await self._open(tenant, roots)).values())
                    await asyncio.gather(*(self._ended(tenant, root) for root in open_ones))
                deleted += await self._delete(tenant, roots)
                left |= set((await self._open(tenant, roots)).values())
            deleted += sum([await self._delete(tenant, [r]) for r in self._kept(tenant, which)])
            await self._wipe()
            traced.set_attribute(telemetry.RUNS_DELETED, deleted)
        self._tell(deleted, len(left))
        return Purged(deleted, len(left))

    async def _counted(self, tenant: str, which: RunSelection, force: bool) -> Purged:
        left, found, after = set(self._at_work(tenant, which)), 0, ""
        here = {run.id for run in self._working(tenant) if run.tree in left} if force else set()
        while roots := await self._trees.roots(tenant, which, after, _AT_ONCE):
            after = roots[-1]
            kin = await self._trees.kin(tenant, roots)
            open_ones = set((await self._open(tenant, roots)).values())
            left |= open_ones
            found += sum(force or each.root not in open_ones for each in kin)
            here -= {each.run_id for each in kin}
        kept = (self._active.tree_kept(tenant, root) for root in self._kept(tenant, which))
        alone = {run.id for tree in kept for run in tree} | here  # that are not on record
        return Purged(found + len(alone), 0 if force else len(left))

    # -- which have ended ----------------------------------------------------------------------

    def _at_work(self, tenant: str, which: RunSelection) -> list[str]:
        """Selected trees of which the first run is at work here."""
        return [run.id for run in self._working(tenant) if not run.parent and which.takes(run)]

    def _working(self, tenant: str) -> list[Run]:
        runs = (execution.run for execution in self._active)
        return [run for run in runs if run.tenant == tenant]

    def _kept(self, tenant: str, which: RunSelection) -> list[str]:
        """Selected trees of which only memory knows a run."""
        roots = self._active.roots_kept(tenant)
        return [root for root in roots if which.takes(self._active.tree_kept(tenant, root)[0])]

    async def _open(self, tenant: str, roots: Iterable[str]) -> dict[str, str]:
        """Runs of these trees that have not ended, and the tree of each; the first one first."""
        wanted = set(roots)
        kin = await self._trees.kin(tenant, wanted)
        ended = {each.run_id for each in kin if each.ended}
        here = (execution.run for execution in self._active if execution.id not in ended)
        found = {run.id: run.tree for run in here if run.tenant == tenant and run.tree in wanted}
        found |= {each.run_id: each.root for each in kin if not each.ended}
        return dict(sorted(found.items(), key=lambda each: each[0] != each[1]))

    async def _ended(self, tenant: str, root: str) -> None:
        """Cancel the runs of a tree that have not ended: the others end with the first one.
        Returns when none is left, or they don't end."""
        for _ in range(_TRIES):
            left = await self._open(tenant, [root])
            if not left:
                return
            for run_id in left:
                try:
                    await self._end(tenant, run_id, _REASON)
                except (NotReady, NotFound):  # it goes on just now, or is gone
                    await asyncio.sleep(_PAUSE)

    # -- the deletion --------------------------------------------------------------------------

    async def _delete(self, tenant: str, roots: Collection[str]) -> int:
        """Those that have ended. What is to be learned goes first: whoever asks again finds no
        run by which he could find it."""
        open_ones = set((await self._open(tenant, roots)).values())
        ended = [root for root in roots if root not in open_ones]
        if not ended:
            return 0
        kin = await self._trees.kin(tenant, ended)
        kept = [run.id for root in ended for run in self._active.tree_kept(tenant, root)]
        await self._unlearn([*(each.run_id for each in kin), *kept])
        self._wiped = False
        deleted = await self._trees.delete(tenant, ended)
        return deleted + sum(len(self._active.forget(tenant, root)) for root in ended)

    async def _wipe(self) -> None:
        self._wiped = True  # unless somebody deletes meanwhile
        try:
            await self._trees.wipe()
        except BaseException:
            self._wiped = False
            raise

    def _tell(self, deleted: int, left: int) -> None:
        if deleted or left:
            _log.info("runs deleted", runs=deleted, left=left)
        telemetry.record(telemetry.RUNS_DELETED, deleted)


def _check(which: RunSelection) -> None:
    says = which.principal or which.session or which.agent or which.ended_before is not None
    if bool(says) == which.all:
        why = "say either which runs (principal, session_id, agent, ended_before), or all"
        raise InvalidInput(why, reason="INVALID_REQUEST", violations=(Violation("all", why),))


def _not_ended(run: Run) -> NotReady:
    state = run.state.value
    which = "has sub-agents' runs that go on" if run.state.terminal else f"is {state}"
    return NotReady(
        f"run {run.id!r} {which}, and is not deleted: cancel it first (CancelRun), or set force",
        reason="RUN_NOT_ENDED",
        run_id=run.id,
        state=state,
    )
