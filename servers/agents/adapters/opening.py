"""Opens what is kept of runs."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from servers.agents.adapters.sqlite_leases import SqliteLeases
from servers.agents.adapters.sqlite_outbox import SqliteOutbox
from servers.agents.adapters.sqlite_retention import SqliteRetention, SqliteVersions
from servers.agents.adapters.sqlite_runs import SqliteRuns
from servers.agents.adapters.sqlite_schema import MIGRATIONS
from servers.agents.ports import Stores
from servers.kernel.sqlite import open_database


@asynccontextmanager
async def open_stores(
    folder: Path, now: Callable[[], float], new_id: Callable[[], str]
) -> AsyncIterator[Stores]:
    """In a SQLite file. Raises as `open_database` does."""
    async with open_database(folder / "runs.db", MIGRATIONS) as database:
        yield Stores(
            SqliteRuns(database),
            SqliteLeases(database, now, new_id()),
            SqliteVersions(database, now),
            SqliteOutbox(database, now),
            SqliteRetention(database, now),
        )
