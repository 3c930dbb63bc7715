"""Who waits, in this process, for the log of a run to grow, or for something to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass(eq=False, slots=True)
class Waiter:
    after: int
    grown: bool = False  # beyond that
    woken: asyncio.Event = field(default_factory=asyncio.Event)


class Waiters:
    def __init__(self) -> None:
        self._waiting: dict[str, set[Waiter]] = {}

    @asynccontextmanager
    async def waiting(self, run_id: str, after: int) -> AsyncIterator[Waiter]:
        """For a log to grow beyond a position: look at it between entering and waiting."""
        waiter = Waiter(after)
        self._waiting.setdefault(run_id, set()).add(waiter)
        try:
            yield waiter
        finally:
            waiters = self._waiting[run_id]
            waiters.discard(waiter)
            if not waiters:
                del self._waiting[run_id]

    def grown(self, run_id: str, last: int) -> None:
        for waiter in self._waiting.get(run_id, ()):
            if last > waiter.after:
                waiter.grown = True
                waiter.woken.set()

    def look(self) -> None:
        """Any log may have grown."""
        for waiters in self._waiting.values():
            for waiter in waiters:
                waiter.woken.set()


class News:
    """What was told while nobody waited is heard by who waits next."""

    def __init__(self) -> None:
        self._told = asyncio.Event()

    def tell(self) -> None:
        self._told.set()

    async def wait(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._told.wait()
        self._told.clear()
