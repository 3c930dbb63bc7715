"""Connections to PostgreSQL that outlive its restarts. Needs the extra `postgres`."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar
from urllib.parse import parse_qs, urlsplit

import asyncpg

from servers.kernel.errors import AstromeshError, Exhausted, Unavailable

T = TypeVar("T")
Connection: TypeAlias = (
    "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
)
Ready: TypeAlias = Callable[[Connection], Coroutine[Any, Any, None]]

PATIENCE: Final = 30.0  # seconds that work waits for a PostgreSQL that is away
CONNECTIONS: Final = 8  # for reads; two more write and listen
ANSWER: Final = 15.0  # seconds for one answer: then the connection counts as lost
_CONNECTING: Final = 10.0  # seconds
_PAUSES: Final = (0.05, 1.0)  # seconds at most before the second try, and before a later one
_AT_THE_END: Final = 3.0  # seconds that statements have when the mesh stops
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # of a connection that broke in an unlucky moment
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.ReadOnlySQLTransactionError,
)
# The planner takes a table for small until it has looked at it: without these it would read
# all of it, for every statement.
POINTED: Final = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off"}


def is_away(error: BaseException) -> bool:
    """Whether the same work may succeed on another connection, or a little later."""
    # A value that doesn't fit its column is an InterfaceError, too.
    return isinstance(error, _AWAY) and not isinstance(error, ValueError)


async def retried(work: Callable[[bool], Awaitable[T]], given_up: Callable[[], bool]) -> T:
    """What comes of the work once the server is there. `work` hears whether it was tried before.

    Raises the last failure once it is given up, and at once what another try would not change.
    """
    again, pause = False, _PAUSES[0]
    while True:
        try:
            return await work(again)
        except Exception as error:
            if not is_away(error) or given_up():
                raise
        await asyncio.sleep(random.uniform(0, pause))  # or all would come back together
        again, pause = True, min(2 * pause, _PAUSES[1])


@dataclass(frozen=True, slots=True)
class Postgres:
    """Made by `open_postgres`."""

    dsn: str
    where: str  # for people: never holds the password
    pool: "asyncpg.Pool[asyncpg.Record]"
    patience: float  # seconds that work waits for a server that is away
    answer: float  # seconds for one answer

    async def fetch(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        """One statement that may as well be done twice."""
        return await self.steadily(lambda connection: connection.fetch(sql, *values))

    async def steadily(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """Work that may as well be done twice, over restarts of the server.

        Raises Unavailable (STORE_UNAVAILABLE) where it stays away.
        """
        end = asyncio.get_running_loop().time() + self.patience
        with _named(self.where):
            return await retried(lambda _: self._once(work), past(end))

    async def _once(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        if self.pool.is_closing():
            raise _closed()
        async with asyncio.timeout(self.answer):
            connection = await self.pool.acquire()
        try:
            return await work(connection)
        finally:
            await self.pool.release(connection)

    async def connect(self, **settings: str) -> "asyncpg.Connection[asyncpg.Record]":
        """A connection of its own, which the caller closes."""
        return await asyncpg.connect(
            self.dsn, timeout=_CONNECTING, command_timeout=self.answer, server_settings=settings
        )


def _closed() -> Unavailable:
    return Unavailable("the connections to PostgreSQL are closed", reason="SHUTTING_DOWN")


@asynccontextmanager
async def open_postgres(
    dsn: str,
    said_in: str,
    patience: float = PATIENCE,
    *,
    answer: float = ANSWER,
    ready: Ready | None = None,
    settings: Mapping[str, str] = POINTED,
) -> AsyncIterator[Postgres]:
    """Raises Unavailable (STORE_UNAVAILABLE) where the database can't be used. `said_in` tells
    people where the address is written. `ready` is done once with each connection, before
    anybody gets it; `settings` are of all of them."""
    where = place(dsn)
    try:
        pool = await asyncpg.create_pool(
            dsn,
            min_size=1,
            max_size=CONNECTIONS,
            timeout=_CONNECTING,
            command_timeout=answer,
            server_settings=dict(settings),
            init=ready,
            reset=_as_it_was,
        )
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as e:
        # Of a mistake in the address the text would repeat the address.
        why = "its address can't be read" if isinstance(e, ValueError) else str(e) or repr(e)
        raise Unavailable(
            f"{where} ({said_in}) can't be used: {why}",
            reason="STORE_UNAVAILABLE",
        ) from e
    try:
        yield Postgres(dsn, where, pool, patience, answer)
    finally:
        try:
            async with asyncio.timeout(_AT_THE_END):
                await pool.close()
        except TimeoutError:
            pool.terminate()


async def _as_it_was(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    """asyncpg has ended an open transaction already. It would ask the server for more, each time
    a connection comes back: to undo settings, session locks and the like, which nobody here
    leaves behind."""


def place(dsn: str) -> str:
    """What the address says of where, and nothing of who."""
    try:
        parts = urlsplit(dsn)
    except ValueError:
        return "PostgreSQL"
    host = parts.netloc.rpartition("@")[2]
    host = host or next(iter(parse_qs(parts.query).get("host", ["localhost"])))
    return f"PostgreSQL at {host}, database {parts.path.lstrip('/')!r},"


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        ours = in_our_words(error, where)
        if ours is error:
            raise
        raise ours from error


def in_our_words(error: Exception, where: str) -> Exception:
    """What PostgreSQL could not do. Errors of the SQL itself stay as they are."""
    ours: AstromeshError
    if isinstance(error, asyncpg.DiskFullError):
        ours = Exhausted(f"{where} has no room left on its disk", reason="DISK_FULL")
    elif is_away(error):
        ours = Unavailable(
            f"{where} can't be reached: {str(error) or repr(error)}",
            reason="STORE_UNAVAILABLE",
            retry_after=1.0,
        )
    else:
        return error
    ours.__cause__ = error
    return ours


def past(end: float) -> Callable[[], bool]:
    """Whether the loop's clock is past a time."""
    loop = asyncio.get_running_loop()
    return lambda: loop.time() >= end
