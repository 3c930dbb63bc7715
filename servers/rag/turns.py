"""Whose turn it is: tenants take turns, and the ingestions of one tenant come in order."""

import asyncio
from collections import OrderedDict, deque


class Turns:
    """An ingestion that was taken is in one hand only: it is put back, or it is over."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, deque[str]] = OrderedDict()
        self._next: deque[str] = deque()
        self._count = asyncio.Semaphore(0)

    def add(self, tenant: str, ingestion: str) -> None:
        self._waiting.setdefault(tenant, deque()).append(ingestion)
        self._count.release()

    def put_back(self, tenant: str, ingestion: str) -> None:
        """It comes before the others of its tenant, and its tenant behind all the others."""
        self._waiting.setdefault(tenant, deque()).appendleft(ingestion)
        self._count.release()

    def hasten(self, tenant: str, ingestion: str) -> None:
        """It is taken next, if it waits here."""
        waiting = self._waiting.get(tenant, deque())
        if ingestion not in waiting:
            return
        waiting.remove(ingestion)
        if not waiting:
            del self._waiting[tenant]
        self._next.append(ingestion)

    async def take(self) -> str:
        await self._count.acquire()
        if self._next:
            return self._next.popleft()
        tenant, ingestions = next(iter(self._waiting.items()))
        ingestion = ingestions.popleft()
        self._waiting.move_to_end(tenant)
        if not ingestions:
            del self._waiting[tenant]
        return ingestion
