"""Connections to Redis with as little as possible around a question. Needs the extra `redis`.

The client opens connections, signs in and packs commands. Its pool and its commands are passed
by: they take twice as long as Redis itself, and a reply of many parts is read byte by byte.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import MasterDownError, NoScriptError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as Late

from servers.kernel.errors import Unavailable

_CONNECTIONS: Final = 16
_ANSWER: Final = 5.0  # seconds for an answer, and for a connection where none is open

# What a server answers that has become a replica: another one, under the same name, is to be asked.
DEMOTED: Final = (ReadOnlyError, MasterDownError)

Word: TypeAlias = str | bytes | int | float


@dataclass(frozen=True, slots=True)
class Script:
    """Of many steps that Redis does at one go. Redis knows it by its hash once it has seen it."""

    text: str
    hash: str

    @classmethod
    def of(cls, text: str) -> "Script":
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


class Connections:
    """Made by `open_connections`. Whoever asks has a connection for himself meanwhile."""

    def __init__(self, pool: ConnectionPool, answer: float) -> None:
        self._pool, self._answer = pool, answer
        self._free = asyncio.Semaphore(min(_CONNECTIONS, pool.max_connections))
        self._idle: list[AbstractConnection] = []  # the last one is used first
        self._closed = False

    @property
    def idle(self) -> int:
        """How many are open for who asks next."""
        return len(self._idle)

    async def run(self, script: Script, keys: Sequence[str], words: Sequence[Word]) -> Any:
        """As `ask`."""
        try:
            return await self.ask("EVALSHA", script.hash, len(keys), *keys, *words)
        except NoScriptError:  # it has not run
            return await self.ask("EVAL", script.text, len(keys), *keys, *words)

    async def ask(self, *words: Word) -> Any:
        """Raises RedisError or OSError where there is no answer: it may be done all the same."""
        (answer,) = await self.ask_all([words])
        return answer

    async def ask_all(self, questions: Sequence[Sequence[Word]]) -> list[Any]:
        """Several at one go, in their order; others may be answered in between."""
        try:
            async with asyncio.timeout(self._answer), self._free:
                return await self._answered(questions)
        except TimeoutError as error:
            await self._give_up_idle()
            raise Late(f"no answer in {self._answer:g} seconds") from error
        except (Lost, Late, OSError, *DEMOTED):
            await self._give_up_idle()
            raise

    async def _answered(self, questions: Sequence[Sequence[Word]]) -> list[Any]:
        connection = await self._connected()
        try:
            return await _answers(connection, questions)
        finally:
            if self._closed:
                await connection.disconnect(nowait=True)
            elif connection.is_connected:  # it isn't where an answer is still to come
                self._idle.append(connection)

    async def _give_up_idle(self) -> None:
        """They lead where the one that has failed led: each would cost somebody as long as it."""
        while self._idle:
            await self._idle.pop().disconnect(nowait=True)

    async def _connected(self) -> AbstractConnection:
        """One that is open; those that the server has closed meanwhile are given up."""
        if self._closed:
            raise Unavailable("the connections to Redis are closed", reason="SHUTTING_DOWN")
        while self._idle:
            connection = self._idle.pop()
            if not await connection.can_read():  # nobody has asked: it is the end that can be read
                return connection
            await connection.disconnect(nowait=True)
        new: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        await new.connect()  # type: ignore[no-untyped-call]
        return new

    async def close(self) -> None:
        """Those that are in use, as soon as they aren't."""
        self._closed = True
        while self._idle:
            await self._idle.pop().disconnect()


async def _answers(
    connection: AbstractConnection, questions: Sequence[Sequence[Word]]
) -> list[Any]:
    try:
        packed = connection.pack_commands(questions)
        await connection.send_packed_command(packed, check_health=False)
        answers = [await _answer(connection) for _ in questions]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    for answer in answers:
        if isinstance(answer, ResponseError):
            raise answer
    return answers


async def _answer(connection: AbstractConnection) -> Any:
    """What Redis refuses is an answer, too: others may follow it."""
    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as refused:
        return refused


@asynccontextmanager
async def open_connections(url: str, answer: float = _ANSWER) -> AsyncIterator[Connections]:
    """None is open yet. Raises ValueError for an address that makes no sense."""
    pool = ConnectionPool.from_url(
        url,
        protocol=2,
        socket_timeout=None,  # the time is taken here, once for a question and its answer
        socket_connect_timeout=answer,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        pool.make_connection()  # type: ignore[no-untyped-call]  # which only reads the options
    except TypeError as unknown:
        raise ValueError("an option of the address that there isn't") from unknown
    connections = Connections(pool, answer)
    try:
        yield connections
    finally:
        await connections.close()
