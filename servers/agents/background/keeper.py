"""Keeps the leases of this process's runs, and takes up those that nobody works on."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from math import isinf

import structlog

from servers.agents.ports import Leases
from servers.agents.runs.active import ActiveRuns
from servers.domain.run_events import RunEvent
from servers.domain.runs import Run
from servers.kernel.errors import AstromeshError

_log = structlog.stdlib.get_logger("astromesh.agents")

_BEAT = 1.0  # seconds at the most: how late a cancel from elsewhere or a timer may be
_AT_ONCE = 100  # runs that are taken up with one beat
_PAUSES = (1.0, 2.0, 5.0)  # seconds before a run is tried again that the store didn't take
_REMEMBERED = 10_000  # runs that had trouble: those that go on elsewhere never come back

TakeUp = Callable[[Run, Sequence[RunEvent]], Awaitable[None]]


class Keeper:
    def __init__(
        self,
        leases: Leases,
        active: ActiveRuns,
        take_up: TakeUp,
        stopping: Callable[[], bool],
        taking: set[str],
    ) -> None:
        """`taking`: runs that were claimed or taken, and are not at work yet."""
        self._leases = leases
        self._active = active
        self._take_up = take_up
        self._stopping = stopping
        self._taking = taking
        self._trouble: dict[str, int] = {}  # how often a run had to be left, in a row
        self._resting: dict[str, asyncio.TimerHandle] = {}

    def came_to_rest(self, run: Run) -> None:
        """A run of this process has ended, waits, or had to be left: the store was in trouble."""
        if run.state.terminal or run.state.waiting:
            self._trouble.pop(run.id, None)
            return
        times = self._trouble[run.id] = self._trouble.pop(run.id, 0) + 1
        if len(self._trouble) > _REMEMBERED:
            del self._trouble[next(iter(self._trouble))]
        pause = _PAUSES[min(times, len(_PAUSES)) - 1]
        rested = asyncio.get_running_loop().call_later(pause, self._resting.pop, run.id, None)
        self._resting[run.id] = rested

    async def first(self) -> None:
        """Take up all that an earlier process left behind."""
        while claimed := await self._leases.claim(self._mine(), _AT_ONCE):
            for run, past in claimed:
                await self._take_up(run, past)
            if len(claimed) < _AT_ONCE:
                return

    def stop(self) -> None:
        for timer in self._resting.values():
            timer.cancel()

    async def keep(self, tasks: asyncio.TaskGroup) -> None:
        """For ever: a beat every second at the least."""
        while True:
            await self._leases.news(min(_BEAT, self._leases.lease / 3))
            try:
                await self._renew()
                await self._claim(tasks)
            except AstromeshError as error:  # the store is away: what is not renewed is lost
                _log.warning("leases not kept", error=error.message)
            except Exception as error:
                _log.exception("leases not kept", error=repr(error))

    async def _renew(self) -> None:
        if isinf(self._leases.lease):
            return
        beat = await self._leases.renew(self._mine())
        for execution in self._active:
            if execution.id in beat.lost:
                execution.lose()
            elif execution.id in beat.cancelled:
                execution.cancel(beat.cancelled[execution.id] or "somebody cancelled it")

    async def _claim(self, tasks: asyncio.TaskGroup) -> None:
        free = min(self._active.free, _AT_ONCE)
        if free <= 0 or self._stopping():
            return
        besides = self._mine() | self._resting.keys()
        for run, past in await self._leases.claim(besides, free):
            self._taking.add(run.id)
            tasks.create_task(self._taken_up(run, past), name=f"take up {run.id}")

    async def _taken_up(self, run: Run, past: Sequence[RunEvent]) -> None:
        self._taking.add(run.id)
        try:
            await self._take_up(run, past)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # it is tried again: the store has it
            _log.exception("run could not be taken up", run_id=run.id, error=repr(error))
        finally:
            self._taking.discard(run.id)

    def _mine(self) -> frozenset[str]:
        return frozenset({execution.id for execution in self._active} | self._taking)
