"""Watches runs, wherever they are: at work here, at work elsewhere, waiting or ended."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from servers.agents.ports import RunStore
from servers.agents.runs.active import ActiveRuns, Kept
from servers.agents.runs.execution import Execution
from servers.domain.run_events import Completed, RunEvent
from servers.domain.runs import Run, RunFilter
from servers.kernel.errors import InvalidInput, Unavailable, Violation
from servers.kernel.paging import LARGEST_SIZE

_LOOK_AGAIN = 1.0  # seconds, where the store has not told before


class Following:
    def __init__(self, active: ActiveRuns, store: RunStore, stopping: Callable[[], bool]) -> None:
        self._active = active
        self._store = store
        self._stopping = stopping

    async def get(self, tenant: str, run_id: str) -> Run:
        if execution := self._active.get(tenant, run_id):
            return execution.snapshot()
        if kept := self._active.kept(tenant, run_id):
            return kept.run
        return await self._store.get(tenant, run_id)

    async def tree(self, tenant: str, root: str) -> list[Run]:
        """All runs of a tree that are on record, as they stand now."""
        found: list[Run] = []
        token = ""
        while True:
            page = await self._store.list(tenant, RunFilter(root=root), LARGEST_SIZE, token)
            found += page.runs
            if not (token := page.next_page_token):
                break
        working = {run.id: self._active.get(tenant, run.id) for run in found}
        return [run if (at := working[run.id]) is None else at.snapshot() for run in found]

    async def at_rest(self, run: Run) -> Run:
        """`settled`, for one that may be by now."""
        if run.state.terminal or run.state.waiting:
            return run
        return await self.settled(run.tenant, run.id)

    async def settled(self, tenant: str, run_id: str) -> Run:
        """The run, once it has ended or waits."""
        while True:
            if execution := self._active.get(tenant, run_id):
                await execution.ended.wait()
                run = execution.run
            else:
                run = await self.get(tenant, run_id)
            if run.state.terminal or run.state.waiting:
                return run
            self._check_open(run_id)
            await self._changed(run_id, await self._store.last_sequence(run_id))

    async def events(
        self, tenant: str, run_id: str, after: int = 0, to_the_end: bool = True
    ) -> AsyncGenerator[RunEvent, None]:
        """Events after a position, until the run has ended; unless `to_the_end`, until it waits."""
        if after < 0:
            raise _refused("is a position in the log, 0 or more")
        first = True
        while True:
            async with aclosing(self._batch(tenant, run_id, after, first)) as batch:
                async for event in batch:
                    after = event.sequence
                    yield event
                    if isinstance(event.payload, Completed):
                        return
            run, first = await self.get(tenant, run_id), False
            if run.state.terminal and not await self._store.events(run_id, after, 1):
                return
            if run.state.waiting and not to_the_end:
                return
            if not run.state.terminal and self._active.get(tenant, run_id) is None:
                self._check_open(run_id)
                await self._changed(run_id, after)

    async def so_far(
        self, tenant: str, run_id: str, after: int = 0
    ) -> AsyncGenerator[RunEvent, None]:
        """The events that a run's log has by now after a position."""
        if after < 0:
            raise _refused("is a position in the log, 0 or more")
        if execution := self._active.get(tenant, run_id):
            for event in tuple(execution.log.events):
                if event.sequence > after:
                    yield event
        elif kept := self._active.kept(tenant, run_id):
            async with aclosing(_replayed(kept, after)) as events:
                async for event in events:
                    yield event
        else:
            run = await self._store.get(tenant, run_id)
            async with aclosing(self._stored(run, after, first=True)) as events:
                async for event in events:
                    yield event

    async def of(self, execution: Execution) -> AsyncGenerator[RunEvent, None]:
        """All events of a run at work here, until it has ended or waits."""
        after = 0
        async with aclosing(self._live(execution, 0)) as events:
            async for event in events:
                after = event.sequence
                yield event
        state = execution.run.state
        if not (state.terminal or state.waiting):  # it goes on elsewhere
            self._check_open(execution.id)
            async with aclosing(
                self.events(execution.run.tenant, execution.id, after, to_the_end=False)
            ) as events:
                async for event in events:
                    yield event

    async def _batch(
        self, tenant: str, run_id: str, after: int, first: bool
    ) -> AsyncGenerator[RunEvent, None]:
        """What there is to tell now, from wherever the run is."""
        if execution := self._active.get(tenant, run_id):
            source = self._live(execution, after)
        elif kept := self._active.kept(tenant, run_id):
            source = _replayed(kept, after)
        else:
            source = self._stored(await self._store.get(tenant, run_id), after, first)
        async with aclosing(source) as events:
            async for event in events:
                yield event

    async def _live(self, execution: Execution, after: int) -> AsyncGenerator[RunEvent, None]:
        async with aclosing(execution.log.follow(after)) as events:
            async for event in events:
                yield event
        await execution.ended.wait()

    async def _stored(self, run: Run, after: int, first: bool) -> AsyncGenerator[RunEvent, None]:
        last = await self._store.last_sequence(run.id) if first and after else after
        if after > last and run.state.terminal:
            raise _refused(f"lies beyond the end of the log, {last}", run.id, last)
        while page := await self._store.events(run.id, after):
            for event in page:
                yield event
            after = page[-1].sequence

    async def _changed(self, run_id: str, after: int) -> None:
        await self._store.changed(run_id, after, _LOOK_AGAIN)

    def _check_open(self, run_id: str) -> None:
        if self._stopping():
            raise stopped(run_id)


def stopped(run_id: str) -> Unavailable:
    return Unavailable(
        "the mesh was stopped; the run goes on when it is started again",
        reason="MESH_STOPPED",
        run_id=run_id,
    )


def _refused(wrong: str, run_id: str = "", last: int = 0) -> InvalidInput:
    violation = Violation("after_sequence", wrong)
    message = f"{violation.field} {violation.description}"
    if not run_id:
        return InvalidInput(message, reason="INVALID_REQUEST", violations=(violation,))
    return InvalidInput(
        message,
        reason="CURSOR_BEYOND_END",
        violations=(violation,),
        run_id=run_id,
        last_sequence=str(last),
    )


async def _replayed(kept: Kept, after: int) -> AsyncGenerator[RunEvent, None]:
    if after and kept.events and after > kept.events[-1].sequence:
        last = kept.events[-1].sequence
        raise _refused(f"lies beyond the end of the log, {last}", kept.run.id, last)
    for event in kept.events:
        if event.sequence > after:
            yield event
