"""Episodes in the SQLite file of conversations."""

import sqlite3
from collections.abc import Callable, Sequence

from servers.domain.episodes import Episode, EpisodeFilter, RunTold
from servers.kernel.sqlite import Database
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

_MARKS = ", ".join("?" * len(WRITTEN.split(", ")))
_INSERT = f"INSERT INTO episode({WRITTEN}) VALUES ({_MARKS})"
_RUN = "tenant = ? AND agent = ? AND run_id = ? AND attempt > 0"
_ONE = "tenant = ? AND agent = ? AND id = ?"
_ALIVE = "(expires_at IS NULL OR expires_at > ?)"
_HIS = (
    f"SELECT {COLUMNS} FROM episode WHERE tenant = ? AND principal = ? AND principal != '' "
    f"AND seq > ? AND {_ALIVE} ORDER BY seq LIMIT ?"
)


class SqliteEpisodes:
    """Needs a database that was opened with the MIGRATIONS of conversations, `erasing`.
    `now` is the time
    by which episodes end: seconds since the epoch."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database, self._now = database, now

    async def record(self, told: RunTold) -> int:
        rows, which = rows_of(told), (told.key.tenant, told.key.agent, told.run_id)

        def work(db: sqlite3.Connection) -> int:
            (newest,) = db.execute(
                f"SELECT max(attempt) FROM episode WHERE {_RUN}", which
            ).fetchone()
            if newest is not None and newest >= told.attempt:
                return 0
            db.execute(f"DELETE FROM episode WHERE {_RUN}", which)
            db.executemany(_INSERT, rows)
            return len(rows)

        return await self._database.write(work)

    async def add(self, tenant: str, episode: Episode) -> Episode:
        which = (tenant, episode.agent, episode.id)

        def work(db: sqlite3.Connection) -> Episode:
            over = f"DELETE FROM episode WHERE {_ONE} AND expires_at <= ?"
            db.execute(over, (*which, self._now()))
            insert = f"{_INSERT} ON CONFLICT (tenant, agent, id) DO NOTHING"
            db.execute(insert, row_of(tenant, episode))
            row = db.execute(f"SELECT {COLUMNS} FROM episode WHERE {_ONE}", which).fetchone()
            return numbered_from(row)[1]

        return await self._database.write(work)

    async def page(
        self, asked: EpisodeFilter, before: Position | None, limit: int
    ) -> Sequence[Numbered]:
        where, values = conditions(asked, self._now(), before)
        sql = f"SELECT {COLUMNS} FROM episode WHERE {where} {NEWEST_FIRST} LIMIT ?"
        return await self._database.read(
            lambda db: [numbered_from(row) for row in db.execute(sql, (*values, limit))]
        )

    async def get(self, tenant: str, agent: str, id: str) -> Episode | None:
        sql = f"SELECT {COLUMNS} FROM episode WHERE {_ONE} AND {_ALIVE}"
        values = (tenant, agent, id, self._now())
        row = await self._database.read(lambda db: db.execute(sql, values).fetchone())
        return numbered_from(row)[1] if row else None

    async def delete(self, asked: EpisodeFilter) -> int:
        where, values = conditions(asked, self._now())
        sql = f"DELETE FROM episode WHERE {where}"
        gone = await self._database.write(lambda db: db.execute(sql, values).rowcount)
        await self._database.write_out()
        return gone

    async def remove(self, tenant: str, agent: str, id: str) -> bool:
        sql = f"DELETE FROM episode WHERE {_ONE} AND {_ALIVE}"
        values = (tenant, agent, id, self._now())
        gone = await self._database.write(lambda db: db.execute(sql, values).rowcount == 1)
        await self._database.write_out()  # also where an earlier try came to the first half only
        return gone

    async def of_principal(
        self, tenant: str, principal: str, after: int, limit: int
    ) -> Sequence[Numbered]:
        values = (tenant, principal, after, self._now(), limit)
        return await self._database.read(
            lambda db: [numbered_from(row) for row in db.execute(_HIS, values)]
        )

    async def erase(self, tenant: str, principal: str) -> int:
        sql = (
            "DELETE FROM episode WHERE tenant = ? AND principal = ? AND principal != '' "
            "RETURNING expires_at"
        )

        def work(db: sqlite3.Connection) -> int:
            gone = db.execute(sql, (tenant, principal)).fetchall()
            return sum(ends is None or ends > self._now() for (ends,) in gone)

        erased = await self._database.write(work)
        await self._database.wipe()  # also where an earlier try came to the first half only
        return erased

    async def sweep(self) -> int:
        sql = "DELETE FROM episode WHERE expires_at <= ?"
        over = await self._database.write(lambda db: db.execute(sql, (self._now(),)).rowcount)
        if over:
            await self._database.write_out()
        return over
