"""Threads that own one SQLite connection each and do the event loop's work on it, in order.

Knows about threads, queues and futures; what a batch of work means is handed in.
"""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Any, TypeAlias, TypeVar

from servers.kernel.errors import Unavailable

T = TypeVar("T")
Work: TypeAlias = Callable[[sqlite3.Connection], Any]
Outcome: TypeAlias = tuple[Any, Exception | None]  # what work returned, or raised
_Job: TypeAlias = tuple[Work, asyncio.Future[Any]]


def attempt(work: Work, connection: sqlite3.Connection) -> Outcome:
    try:
        return work(connection), None
    except Exception as error:
        return None, error


class Workers:
    """`opening` gives a thread its connection for as long as it lives.

    `batch` says how many jobs a thread may take at once, `pending` how many may be
    unfinished before `submit` makes callers wait. `named` translates errors.
    """

    def __init__(
        self,
        opening: Callable[[], AbstractContextManager[sqlite3.Connection]],
        apply: Callable[[sqlite3.Connection, Sequence[Work]], Sequence[Outcome]],
        named: Callable[[Exception], Exception],
        threads: int,
        batch: int,
        pending: int,
    ) -> None:
        self._opening, self._apply, self._named = opening, apply, named
        self._threads, self._batch = threads, batch
        self._slots = asyncio.Semaphore(pending)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._open = False

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Leaving waits until everything submitted is done and the connections are closed."""
        self._loop = asyncio.get_running_loop()
        opened = [self._loop.create_future() for _ in range(self._threads)]
        closed = [self._loop.create_future() for _ in range(self._threads)]
        for pair in zip(opened, closed, strict=True):
            threading.Thread(target=self._live, args=pair, name="sqlite", daemon=True).start()
        try:
            await asyncio.gather(*opened)
            self._open = True
            yield
        finally:
            self._open = False
            for _ in closed:
                self._jobs.put(None)
            await asyncio.gather(*closed)

    async def submit(self, work: Callable[[sqlite3.Connection], T]) -> T:
        await self._slots.acquire()
        if not self._open:
            self._slots.release()
            raise Unavailable("the database is closed", reason="SHUTTING_DOWN")
        future: asyncio.Future[T] = self._loop.create_future()
        self._jobs.put((work, future))
        return await future

    def _live(self, opened: asyncio.Future[None], closed: asyncio.Future[None]) -> None:
        try:
            with self._opening() as connection:
                self._tell([opened], [(None, None)])
                while jobs := self._take():
                    self._serve(connection, jobs)
        except Exception as error:  # could not be opened, or not be closed
            self._tell([opened], [(None, error)])
        finally:
            self._tell([closed], [(None, None)])

    def _take(self) -> list[_Job]:
        """Wait for work, then take what else is there. Nothing: it is time to stop."""
        jobs: list[_Job] = []
        job = self._jobs.get()
        with suppress(Empty):
            while job is not None:
                jobs.append(job)
                if len(jobs) == self._batch:
                    return jobs
                job = self._jobs.get_nowait()
            if jobs:
                self._jobs.put(None)  # seen too early: stop at the next turn
        return jobs

    def _serve(self, connection: sqlite3.Connection, jobs: list[_Job]) -> None:
        try:
            outcomes = self._apply(connection, [work for work, _ in jobs])
        except Exception as error:
            outcomes = [(None, error)] * len(jobs)
        self._tell([future for _, future in jobs], outcomes, len(jobs))

    def _tell(
        self, futures: list[asyncio.Future[Any]], outcomes: Sequence[Outcome], slots: int = 0
    ) -> None:
        """Wake the loop once for the whole batch: that costs more than the rest of a write."""
        with suppress(RuntimeError):  # the loop is gone, and with it everyone who waits
            self._loop.call_soon_threadsafe(self._settle, futures, outcomes, slots)

    def _settle(
        self, futures: list[asyncio.Future[Any]], outcomes: Sequence[Outcome], slots: int
    ) -> None:
        for _ in range(slots):
            self._slots.release()
        for future, (result, error) in zip(futures, outcomes, strict=True):
            if future.done():  # its caller was cancelled
                continue
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration):  # a future refuses to carry it
                future.set_exception(RuntimeError("work raised StopIteration"))
            else:
                future.set_exception(self._named(error))
