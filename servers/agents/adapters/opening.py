"""Opens what is kept of runs, and of agents that were declared through the API."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from servers.agents.adapters.sqlite import agents as sqlite_agents
from servers.agents.adapters.sqlite.agents import SqliteAgents
from servers.agents.adapters.sqlite.leases import SqliteLeases
from servers.agents.adapters.sqlite.outbox import SqliteOutbox
from servers.agents.adapters.sqlite.retention import SqliteRetention, SqliteVersions
from servers.agents.adapters.sqlite.runs import SqliteRuns
from servers.agents.adapters.sqlite.schema import MIGRATIONS
from servers.agents.adapters.sqlite.trees import SqliteTrees
from servers.agents.ports import Stores
from servers.kernel.errors import NotReady
from servers.kernel.sqlite import open_database


@asynccontextmanager
async def open_stores(
    folder: Path,
    now: Callable[[], float],
    new_id: Callable[[], str],
    *,
    dsn: str = "",
    lease: float = 15.0,
) -> AsyncIterator[Stores]:
    """In PostgreSQL where a `dsn` says where, else in SQLite files in the folder.

    Raises NotReady and others as `open_database` and `open_postgres_stores` do; NotReady
    (EXTRA_MISSING) where PostgreSQL is asked for and its packages are not there.
    """
    async with AsyncExitStack() as stack:
        if dsn:
            yield await stack.enter_async_context(_in_postgres(dsn, lease, new_id()))
        else:
            yield await stack.enter_async_context(_in_sqlite(folder, now, new_id()))


def _in_postgres(dsn: str, lease: float, owner: str) -> AbstractAsyncContextManager[Stores]:
    try:
        from servers.agents.adapters.postgres.stores import open_postgres_stores
    except ModuleNotFoundError as missing:
        raise NotReady(
            f"spec.runs of runtime.yaml needs the package {missing.name!r}: "
            "pip install 'astromesh-grpc[postgres]'",
            reason="EXTRA_MISSING",
            extra="postgres",
            module=missing.name or "",
        ) from missing
    return open_postgres_stores(dsn, lease, owner)


@asynccontextmanager
async def _in_sqlite(folder: Path, now: Callable[[], float], owner: str) -> AsyncIterator[Stores]:
    async with (
        open_database(folder / "runs.db", MIGRATIONS, erasing=True) as database,
        open_database(folder / "agents.db", sqlite_agents.MIGRATIONS) as agents,
    ):
        yield Stores(
            SqliteRuns(database),
            SqliteLeases(database, now, owner),
            SqliteVersions(database, now),
            SqliteOutbox(database, now),
            SqliteRetention(database, now),
            SqliteTrees(database),
            SqliteAgents(agents),
        )
