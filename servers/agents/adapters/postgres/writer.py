"""Writes of runs that share their disk syncs: whatever was asked for while the last commit
ran is committed together. Needs the extra `postgres`.

One connection does it, in the order in which it was asked for. Where it is lost, nobody
knows whether the last commit came to pass: what is there already is then not written again.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeVar

import asyncpg

from servers.kernel.errors import Unavailable
from servers.kernel.postgres import (
    POINTED,
    Connection,
    Postgres,
    in_our_words,
    is_away,
    past,
    retried,
)

T = TypeVar("T")

_TOGETHER: Final = 128  # writes in one commit at most: bounds how long the first of them waits
_BYTES: Final = 8 << 20  # in one commit, or a single write that has more
_PENDING: Final = 1024  # more unfinished writes make callers wait
_AT_THE_END: Final = 3.0  # seconds that the last writes have when the mesh stops

Outcome = Exception | Any


class Statement(Protocol):
    """What writes of one kind become together."""

    async def __call__(
        self, connection: Connection, writes: Sequence[Any], again: bool, /
    ) -> Sequence[Outcome]:
        """What came of each, in their order. `again`: it may have come to pass before."""
        ...


@dataclass(eq=False, slots=True)
class _Job:
    statement: Statement
    key: str  # of several with one key each has a commit of its own; empty: it goes alone
    write: Any
    size: int  # bytes, about
    asked_at: float
    future: asyncio.Future[Any] = field(repr=False)


class Writer:
    """Made by `writing`."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._loop = asyncio.get_running_loop()
        self._jobs: deque[_Job] = deque()
        self._due = asyncio.Event()
        self._slots = asyncio.Semaphore(_PENDING)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._end: float | None = None  # when it is to give up, since the mesh stops

    async def submit(self, statement: Statement, key: str, write: Any, size: int = 0) -> Any:
        """Returns, or raises, what came of it. A caller that is cancelled while he waits
        leaves the write to happen."""
        await self._slots.acquire()
        if self._end is not None:
            self._slots.release()
            raise _closed()
        future: asyncio.Future[Any] = self._loop.create_future()
        self._jobs.append(_Job(statement, key, write, size, self._loop.time(), future))
        self._due.set()
        return await future

    async def alone(self, work: Callable[[Connection, bool], Awaitable[T]]) -> T:
        """Work in a commit of its own, behind all that was asked for before it. It is told
        whether it may have come to pass before."""

        async def statement(
            connection: Connection, writes: Sequence[None], again: bool
        ) -> Sequence[Outcome]:
            try:
                return [await work(connection, again)]
            except Exception as error:
                if is_away(error):
                    raise
                return [error]

        result: T = await self.submit(statement, "", None)
        return result

    async def for_ever(self) -> None:
        while True:
            await self._due.wait()
            while batch := self._next():
                await self._serve(batch)
            self._due.clear()
            if self._end is not None:
                return

    def _next(self) -> list[_Job]:
        """The first one in line, and what can be committed with it: writes of the same
        kind, of which none is overtaken by another one of its run."""
        batch: list[_Job] = []
        left: deque[_Job] = deque()
        keys: set[str] = set()
        size = 0
        while self._jobs and len(batch) < _TOGETHER and size < _BYTES:
            job = self._jobs.popleft()
            if not batch or (job.statement == batch[0].statement and job.key not in keys):
                batch.append(job)
                size += job.size
            else:
                left.append(job)
            keys.add(job.key)
            if not job.key:  # nobody overtakes it either
                break
        self._jobs.extendleft(reversed(left))
        return batch

    async def _serve(self, batch: list[_Job]) -> None:
        outcomes: Sequence[Outcome]
        try:
            outcomes = await self._steadily(batch)
        except Exception as error:
            outcomes = [error] * len(batch)
        for job, outcome in zip(batch, outcomes, strict=True):
            self._slots.release()
            if job.future.done():  # its caller was cancelled
                continue
            if isinstance(outcome, Exception):
                job.future.set_exception(in_our_words(outcome, self._postgres.where))
            else:
                job.future.set_result(outcome)

    async def _steadily(self, batch: list[_Job]) -> Sequence[Outcome]:
        statement, writes = batch[0].statement, [job.write for job in batch]
        return await retried(
            lambda again: self._attempt(statement, writes, again),
            self._given_up(batch[0].asked_at + self._postgres.patience),
        )

    async def _attempt(
        self, statement: Statement, writes: Sequence[Any], again: bool
    ) -> Sequence[Outcome]:
        connection = await self._connected()
        try:
            return await _together(statement, connection, writes, again)
        except Exception as error:
            if is_away(error):
                self._disconnect()
            raise

    def _given_up(self, end: float) -> Callable[[], bool]:
        is_past = past(end)
        return lambda: is_past() or (self._end is not None and self._loop.time() >= self._end)

    async def _connected(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None or self._connection.is_closed():
            self._connection = await self._postgres.connect(
                **POINTED, plan_cache_mode="force_generic_plan"
            )
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def close(self, task: "asyncio.Task[None]") -> None:
        """Give what was asked for some seconds."""
        self._end = self._loop.time() + _AT_THE_END
        self._due.set()
        try:
            async with asyncio.timeout(2 * _AT_THE_END):
                await task
        except TimeoutError:
            pass
        finally:
            self._disconnect()
            for job in self._jobs:
                if not job.future.done():
                    job.future.set_exception(_closed())


def _closed() -> Unavailable:
    return Unavailable("the store of runs is closed", reason="SHUTTING_DOWN")


async def _together(
    statement: Statement, connection: Connection, writes: Sequence[Any], again: bool
) -> Sequence[Outcome]:
    try:
        return await statement(connection, writes, again)
    except Exception as error:
        if is_away(error):
            raise
    # One of them can't be written. Each by itself, nobody suffers for another.
    return [await _by_itself(statement, connection, each) for each in writes]


async def _by_itself(statement: Statement, connection: Connection, write: Any) -> Outcome:
    try:
        # What failed may have been an older try, which came to pass after all, in the way.
        (outcome,) = await statement(connection, [write], True)
    except Exception as error:
        if is_away(error):
            raise
        return error
    return outcome


@asynccontextmanager
async def writing(postgres: Postgres) -> AsyncIterator[Writer]:
    writer = Writer(postgres)
    task = asyncio.create_task(writer.for_ever())
    try:
        yield writer
    finally:
        with suppress(asyncio.CancelledError):
            await writer.close(task)
