"""Episodes in PostgreSQL. Needs the extra `postgres`."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import count

from servers.domain.episodes import Episode, EpisodeFilter, RunTold
from servers.kernel.postgres import Connection, Postgres, open_postgres
from servers.kernel.postgres_schema import migrate
from servers.memory.adapters.episode_rows import (
    COLUMNS,
    NEWEST_FIRST,
    WRITTEN,
    conditions,
    numbered_from,
    row_of,
    rows_of,
)
from servers.memory.episode_ports import Numbered, Position

MIGRATIONS = (
    """
    CREATE TABLE astromesh_episode(
        seq int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        agent text COLLATE "C" NOT NULL,
        id text COLLATE "C" NOT NULL,
        attempt int4 NOT NULL,      -- of the run that has told it; 0: no run has
        session text COLLATE "C" NOT NULL,
        principal text COLLATE "C" NOT NULL,
        run_id text COLLATE "C" NOT NULL,
        type text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        outcome text COLLATE "C" NOT NULL,
        created_at float8 NOT NULL, -- times are in seconds since the epoch
        expires_at float8,
        body bytea NOT NULL,        -- JSON, see episode_rows.py
        UNIQUE(tenant, agent, id)
    );
    CREATE INDEX astromesh_episode_by_time
        ON astromesh_episode(tenant, agent, created_at, seq);
    CREATE INDEX astromesh_episode_by_session
        ON astromesh_episode(tenant, agent, session, created_at, seq);
    CREATE INDEX astromesh_episode_by_type
        ON astromesh_episode(tenant, agent, type, created_at, seq);
    CREATE INDEX astromesh_episode_by_outcome
        ON astromesh_episode(tenant, agent, outcome, created_at, seq);
    CREATE INDEX astromesh_episode_by_principal
        ON astromesh_episode(tenant, agent, principal, created_at, seq);
    CREATE INDEX astromesh_episode_by_name
        ON astromesh_episode(tenant, agent, name, created_at, seq) WHERE name <> '';
    CREATE INDEX astromesh_episode_by_run
        ON astromesh_episode(tenant, agent, run_id, created_at, seq) WHERE run_id <> '';
    CREATE INDEX astromesh_episode_of_principal
        ON astromesh_episode(tenant, principal, seq) WHERE principal <> '';
    CREATE INDEX astromesh_episode_expires ON astromesh_episode(expires_at)
        WHERE expires_at IS NOT NULL;
    """,
)

_PATIENCE = 10.0  # seconds that a run waits for a server that is away: a restart takes less
_MARKS = ", ".join(f"${n + 1}" for n in range(len(WRITTEN.split(", "))))
_INSERT = f"INSERT INTO astromesh_episode({WRITTEN}) VALUES ({_MARKS})"
_RUN = "tenant = $1 AND agent = $2 AND run_id = $3 AND run_id <> '' AND attempt > 0"
_ONE = "tenant = $1 AND agent = $2 AND id = $3"
_ALIVE = "(expires_at IS NULL OR expires_at > $4)"
# Two who tell of one run, such as one that has lost it without knowing: one after the other.
_TAKE = "SELECT pg_advisory_xact_lock(hashtextextended($1, 7263041955110412321))"
_HIS = (
    f"SELECT {COLUMNS} FROM astromesh_episode WHERE tenant = $1 AND principal = $2 "
    f"AND principal <> '' AND seq > $3 AND {_ALIVE} ORDER BY seq LIMIT $5"
)


class PostgresEpisodes:
    """Made by `open_postgres_episodes`."""

    def __init__(self, postgres: Postgres, now: Callable[[], float]) -> None:
        self._postgres, self._now = postgres, now

    async def record(self, told: RunTold) -> int:
        rows, which = rows_of(told), (told.key.tenant, told.key.agent, told.run_id)

        async def work(connection: Connection) -> int:
            async with connection.transaction():
                await connection.execute(_TAKE, repr(which))
                sql = f"SELECT max(attempt) FROM astromesh_episode WHERE {_RUN}"
                newest = await connection.fetchval(sql, *which)
                if newest is not None and newest >= told.attempt:
                    return 0
                await connection.execute(f"DELETE FROM astromesh_episode WHERE {_RUN}", *which)
                await connection.executemany(_INSERT, rows)
                return len(rows)

        return await self._postgres.steadily(work)

    async def add(self, tenant: str, episode: Episode) -> Episode:
        which = (tenant, episode.agent, episode.id)

        async def work(connection: Connection) -> Episode:
            async with connection.transaction():
                over = f"DELETE FROM astromesh_episode WHERE {_ONE} AND expires_at <= $4"
                await connection.execute(over, *which, self._now())
                insert = f"{_INSERT} ON CONFLICT (tenant, agent, id) DO NOTHING"
                await connection.execute(insert, *row_of(tenant, episode))
                sql = f"SELECT {COLUMNS} FROM astromesh_episode WHERE {_ONE}"
                (row,) = await connection.fetch(sql, *which)
                return numbered_from(row)[1]

        return await self._postgres.steadily(work)

    async def page(
        self, asked: EpisodeFilter, before: Position | None, limit: int
    ) -> Sequence[Numbered]:
        where, values = conditions(asked, self._now(), before)
        sql = f"SELECT {COLUMNS} FROM astromesh_episode WHERE {where} {NEWEST_FIRST} LIMIT ?"
        rows = await self._postgres.fetch(_numbered(sql), *values, limit)
        return [numbered_from(row) for row in rows]

    async def get(self, tenant: str, agent: str, id: str) -> Episode | None:
        sql = f"SELECT {COLUMNS} FROM astromesh_episode WHERE {_ONE} AND {_ALIVE}"
        rows = await self._postgres.fetch(sql, tenant, agent, id, self._now())
        return numbered_from(rows[0])[1] if rows else None

    async def delete(self, asked: EpisodeFilter) -> int:
        where, values = conditions(asked, self._now())
        sql = _numbered(f"DELETE FROM astromesh_episode WHERE {where} RETURNING 1")
        return len(await self._postgres.fetch(sql, *values))

    async def remove(self, tenant: str, agent: str, id: str) -> bool:
        sql = f"DELETE FROM astromesh_episode WHERE {_ONE} AND {_ALIVE} RETURNING 1"
        return bool(await self._postgres.fetch(sql, tenant, agent, id, self._now()))

    async def of_principal(
        self, tenant: str, principal: str, after: int, limit: int
    ) -> Sequence[Numbered]:
        values = (tenant, principal, after, self._now(), limit)
        return [numbered_from(row) for row in await self._postgres.fetch(_HIS, *values)]

    async def erase(self, tenant: str, principal: str) -> int:
        sql = (
            "DELETE FROM astromesh_episode WHERE tenant = $1 AND principal = $2 "
            "AND principal <> '' RETURNING expires_at IS NULL OR expires_at > $3"
        )
        rows = await self._postgres.fetch(sql, tenant, principal, self._now())
        return sum(alive for (alive,) in rows)

    async def sweep(self) -> int:
        sql = "DELETE FROM astromesh_episode WHERE expires_at <= $1 RETURNING 1"
        return len(await self._postgres.fetch(sql, self._now()))


def _numbered(sql: str) -> str:
    """With $1, $2, ... for each "?"."""
    numbers = count(1)
    return "".join(f"${next(numbers)}" if each == "?" else each for each in sql)


@asynccontextmanager
async def open_postgres_episodes(
    dsn: str, said_in: str, now: Callable[[], float], patience: float = _PATIENCE
) -> AsyncIterator[PostgresEpisodes]:
    """Raises Unavailable (STORE_UNAVAILABLE), NotReady (STATE_TOO_NEW, STATE_NOT_WRITABLE)."""
    async with open_postgres(dsn, said_in, patience) as postgres:
        await migrate(postgres, "episodes", MIGRATIONS)
        yield PostgresEpisodes(postgres, now)
