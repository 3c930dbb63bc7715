"""Puts entries on record without making calls wait: several are written together.

What is noted is on disk within about a tenth of a second, at the latest when the journal is
closed. While the disk refuses, entries wait here, up to a bound; no call fails for it.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Final

import structlog

from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError
from servers.router.budgets.records import Entry, Record
from servers.router.budgets.sparing import Sparing

MOST_WAITING: Final = 10_000  # entries; beyond that the newest are lost
_LATEST: Final = 0.1  # seconds until an entry is written
_RETRY: Final = 1.0  # seconds after a write that failed
_TOGETHER: Final = 1000  # entries in one write

_log = structlog.stdlib.get_logger("astromesh.usage")


class Journal:
    """Made by `open_journal`."""

    def __init__(self, record: Record, sparing: Sparing) -> None:
        self._record, self._sparing = record, sparing
        self._waiting: deque[Entry] = deque()
        self._noted = self._written = 0  # entries so far
        self._readers: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._some, self._hurry = asyncio.Event(), asyncio.Event()
        self._failing = self._closing = False
        self._together = _TOGETHER

    def note(self, entry: Entry) -> None:
        """Never waits."""
        if self._closing or len(self._waiting) >= MOST_WAITING:
            self._lost(1, "no room")
            return
        self._waiting.append(entry)
        self._noted += 1
        self._some.set()

    async def on_disk(self) -> None:
        """Wait until all that was noted is on disk, or could not be put there."""
        if self._failing or self._written >= self._noted:
            return
        written = asyncio.get_running_loop().create_future()
        self._readers.append((self._noted, written))
        self._hurry.set()
        await written

    async def run(self) -> None:
        """Write until `close` was called, and the rest then."""
        while await self._time_to_write():
            await self._write()
            if self._failing and self._closing:
                self._lost(len(self._waiting), "closed")
                return

    def close(self) -> None:
        self._closing = True
        self._some.set()
        self._hurry.set()

    async def _time_to_write(self) -> bool:
        """Waits for it. False: nothing is left, and nothing will come."""
        if not (self._waiting or self._closing):
            self._some.clear()
        await self._some.wait()
        with suppress(TimeoutError):
            async with asyncio.timeout(_RETRY if self._failing else _LATEST):
                await self._hurry.wait()
        if not self._closing:
            self._hurry.clear()
        return bool(self._waiting)

    async def _write(self) -> None:
        batch = list(islice(self._waiting, self._together))
        try:
            await self._record.add(batch)
        except AstromeshError as error:
            self._fail(error)
            return
        except Exception as bug:
            # One entry that can't be written must not take others along: which one is it?
            if len(batch) > 1:
                self._together = 1
                self._hurry.set()
                return
            self._together = _TOGETHER
            telemetry.record(telemetry.USAGE_LOST, 1)
            _log.error("usage rows lost", rows=1, exc_info=bug)
        for _ in batch:
            self._waiting.popleft()
        self._failing = False
        self._written += len(batch)
        self._tell(self._written)

    def _fail(self, error: AstromeshError) -> None:
        """Whoever waits has waited long enough."""
        self._failing = True
        self._tell(self._noted)
        if times := self._sparing.times("write"):
            _log.warning("usage not written", error=error.message, times=times)

    def _tell(self, upto: int) -> None:
        while self._readers and self._readers[0][0] <= upto:
            _, written = self._readers.popleft()
            if not written.done():
                written.set_result(None)
        if self._readers or self._together == 1:
            self._hurry.set()

    def _lost(self, rows: int, why: str) -> None:
        telemetry.record(telemetry.USAGE_LOST, rows)
        if times := self._sparing.times(why):
            _log.error("usage rows lost", rows=rows * times, why=why)


@asynccontextmanager
async def open_journal(record: Record, sparing: Sparing) -> AsyncIterator[Journal]:
    """Leaving the context writes what is left."""
    journal = Journal(record, sparing)
    writing = asyncio.create_task(journal.run())
    try:
        yield journal
    finally:
        journal.close()
        await writing
