"""How many conversations are held at once, and how many may wait for their turn."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from servers.router.ports import ProviderBusy

_PAUSE = 1.0  # seconds until it is worth another try


class Places:
    def __init__(self, name: str, places: int, most_waiting: int) -> None:
        self._name = name
        self._free = asyncio.Semaphore(places)
        self._most = most_waiting
        self._waiting = 0

    @asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """First come, first served. Raises ProviderBusy where too many wait already."""
        if self._free.locked() and self._waiting >= self._most:
            raise ProviderBusy(
                f"{self._name}: {self._waiting} conversations wait already", pause=_PAUSE
            )
        self._waiting += 1
        try:
            await self._free.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._free.release()
