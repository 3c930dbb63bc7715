"""Who waits, in this process, for the log of a run to grow, or for something to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class Waiters:
    def __init__(self) -> None:
        self._waiting: dict[str, set[asyncio.Event]] = {}

    @asynccontextmanager
    async def waiting(self, run_id: str) -> AsyncIterator[asyncio.Event]:
        """Set as soon as `wake` is called: look at the log between entering and waiting."""
        event = asyncio.Event()
        self._waiting.setdefault(run_id, set()).add(event)
        try:
            yield event
        finally:
            events = self._waiting[run_id]
            events.discard(event)
            if not events:
                del self._waiting[run_id]

    def wake(self, run_id: str) -> None:
        for event in self._waiting.get(run_id, ()):
            event.set()

    def wake_all(self) -> None:
        for run_id in self._waiting:
            self.wake(run_id)


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
