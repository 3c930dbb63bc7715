"""How long the store of runs takes for its writes: one that takes none any more gets no new runs.

What was said stays in memory until it is written, and every run adds to it.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from servers.domain.run_events import RunEvent
from servers.domain.runs import Run
from servers.kernel.errors import Unavailable


class RunWriter(Protocol):
    """The half of `ports.RunStore` that writes."""

    async def create(
        self, run: Run, request_hash: str = "", events: Sequence[RunEvent] = ()
    ) -> tuple[Run, bool]: ...

    async def append(
        self, run_id: str, events: Sequence[RunEvent], run: Run | None = None
    ) -> None: ...


class TimedWrites:
    """Satisfies RunWriter over another one. `longest`: seconds for one write."""

    def __init__(self, store: RunWriter, longest: float) -> None:
        self._store, self._longest = store, longest
        self._under_way: dict[object, float] = {}  # since when, the oldest first

    async def create(
        self, run: Run, request_hash: str = "", events: Sequence[RunEvent] = ()
    ) -> tuple[Run, bool]:
        with self._timed():
            return await self._store.create(run, request_hash, events)

    async def append(self, run_id: str, events: Sequence[RunEvent], run: Run | None = None) -> None:
        with self._timed():
            await self._store.append(run_id, events, run)

    def check(self) -> None:
        """Raises Unavailable (STORE_STUCK) where a write is under way for too long."""
        oldest = next(iter(self._under_way.values()), None)
        if oldest is None:
            return
        waited = asyncio.get_running_loop().time() - oldest
        if waited > self._longest:
            raise Unavailable(
                f"the store of runs has written nothing of what it was given {waited:.1f} s ago; "
                "look after its disk, and try again",
                reason="STORE_STUCK",
                retry_after=1.0,
            )

    @contextmanager
    def _timed(self) -> Iterator[None]:
        write = object()
        self._under_way[write] = asyncio.get_running_loop().time()
        try:
            yield
        finally:
            del self._under_way[write]
