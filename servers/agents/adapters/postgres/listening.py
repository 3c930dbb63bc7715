"""What the processes on one PostgreSQL tell each other at once: that a log has grown, that
a run is to be cancelled, that one is free. Needs the extra `postgres`.

It only saves time. Everything told is on record first, and whoever hears nothing finds it
there when he looks.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from hashlib import blake2b
from typing import Any, Final

import structlog

from servers.agents.adapters.changes import News, Waiters
from servers.kernel.postgres import Postgres, is_away

_GAP: Final = 0.005  # seconds between two messages: what comes meanwhile goes together
_BEAT: Final = 5.0  # seconds after which a silent connection is tried
_SLOWEST: Final = 2.0  # seconds between two tries to connect
_AT_THE_END: Final = 0.5  # seconds for the last messages
_MOST: Final = 7_000  # bytes; a message may have 8,000

_log = structlog.stdlib.get_logger("astromesh.agents")


class Listening:
    """Made by `listening`. `owner` names this process."""

    def __init__(self, postgres: Postgres, owner: str) -> None:
        self.waiters, self.news = Waiters(), News()
        self.connected = False
        self.first = asyncio.Event()  # connection
        self._postgres, self._owner = postgres, owner
        self._channel = ""
        self._grown: dict[str, int] = {}  # runs, and the last sequence of each
        self._others: list[str] = []
        self._due = asyncio.Event()
        self._told = asyncio.Event()  # all that was due

    def grown(self, run_id: str, last: int) -> None:
        self.waiters.grown(run_id, last)
        self._grown[run_id] = last
        self._tell()

    def cancelled(self, owner: str) -> None:
        self._others.append(f"{self._owner} cancel {owner}")
        self._tell()

    def freed(self) -> None:
        self._others.append(f"{self._owner} free")
        self._tell()

    def _tell(self) -> None:
        self._told.clear()
        self._due.set()

    async def finish(self) -> None:
        """Return when all is told, if it can be: what a process tells last is that its runs
        are free."""
        if self.connected:
            with suppress(TimeoutError):
                async with asyncio.timeout(_AT_THE_END):
                    await self._told.wait()

    async def for_ever(self) -> None:
        pause = 0.1
        while True:
            try:
                await self._once()
            except Exception as error:  # everything told is on record, too
                told = _log.warning if is_away(error) else _log.exception
                told("not told of other processes' runs", error=str(error) or repr(error))
            if self.connected:
                self.connected, pause = False, 0.1
                self._everybody_look()
            await asyncio.sleep(pause)
            pause = min(2 * pause, _SLOWEST)

    async def _once(self) -> None:
        """Listen, and tell, as long as the connection lasts."""
        # What is told is on record: that it was told need not be.
        connection = await self._postgres.connect(synchronous_commit="off")
        try:
            schema = str(await connection.fetchval("SELECT current_schema()"))
            self._channel = f"astromesh_{blake2b(schema.encode(), digest_size=8).hexdigest()}"
            connection.add_termination_listener(lambda _: self._due.set())
            await connection.add_listener(self._channel, self._hear)
            self.connected = True
            self.first.set()
            self._everybody_look()
            while not connection.is_closed():
                for message in self._messages():
                    await connection.execute("SELECT pg_notify($1, $2)", self._channel, message)
                if not self._due.is_set():
                    self._told.set()
                await asyncio.sleep(_GAP)
                if not await self._is_due():
                    await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    async def _is_due(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(_BEAT):
                await self._due.wait()
        return self._due.is_set()

    def _messages(self) -> list[str]:
        self._due.clear()
        others, self._others = self._others, []
        grown, self._grown = self._grown, {}
        words = [f"{last}:{run_id}" for run_id, last in grown.items()]
        return [*others, *_joined(f"{self._owner} grown", words)]

    def _hear(self, _connection: Any, _pid: int, _channel: str, message: object) -> None:
        sender, what, *words = str(message).split(" ")
        match what:
            case "grown" if sender != self._owner:
                for word in words:
                    last, _, run_id = word.partition(":")
                    self.waiters.grown(run_id, int(last))
            case "cancel" if self._owner in words:
                self.news.tell()
            case "free" if sender != self._owner:
                self.news.tell()

    def _everybody_look(self) -> None:
        """Who knows what was told meanwhile."""
        self.waiters.look()
        self.news.tell()


def _joined(head: str, words: list[str]) -> list[str]:
    messages, size = [head] if words else [], len(head)
    for word in words:
        if size + 1 + len(word.encode()) > _MOST:
            messages.append(head)
            size = len(head)
        messages[-1] += f" {word}"
        size += 1 + len(word.encode())
    return messages


@asynccontextmanager
async def listening(postgres: Postgres, owner: str) -> AsyncIterator[Listening]:
    heard = Listening(postgres, owner)
    task = asyncio.create_task(heard.for_ever())
    try:
        with suppress(TimeoutError):
            async with asyncio.timeout(_SLOWEST):
                await heard.first.wait()
        yield heard
        await heard.finish()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
