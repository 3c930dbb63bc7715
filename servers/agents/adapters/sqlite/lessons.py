"""What runs may leave in memory, in a SQLite file of the process that ran them."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import structlog

from servers.agents.ports import Lesson
from servers.domain.semantic import Erasure
from servers.kernel.errors import Unavailable
from servers.kernel.sqlite import Database

_log = structlog.stdlib.get_logger("astromesh.memory")

MIGRATIONS = (
    """
    CREATE TABLE lesson(
        run_id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        agent TEXT NOT NULL,
        session TEXT NOT NULL,
        principal TEXT NOT NULL,
        tree TEXT NOT NULL,
        query TEXT NOT NULL,
        answer TEXT NOT NULL,
        tries INTEGER NOT NULL DEFAULT 0,
        due_at REAL NOT NULL DEFAULT 0  -- seconds since the epoch
    ) WITHOUT ROWID;
    CREATE INDEX lesson_due ON lesson(due_at);
    """,
    # Of those that wait nobody knows any more when they were said: now, at the latest.
    """
    ALTER TABLE lesson ADD COLUMN said_at REAL NOT NULL DEFAULT 0; -- seconds since the epoch
    UPDATE lesson SET said_at = (julianday('now') - 2440587.5) * 86400;
    """,
    """
    ALTER TABLE lesson ADD COLUMN facts TEXT; -- JSON; NULL: no model was asked yet
    """,
)

_COLUMNS = "run_id, tenant, agent, session, principal, tree, query, answer, said_at"


class SqliteLessons:
    """Needs a database that was opened with MIGRATIONS, `erasing`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, lesson: Lesson) -> None:
        values = (
            lesson.run_id,
            lesson.tenant,
            lesson.agent,
            lesson.session,
            lesson.principal,
            lesson.tree,
            lesson.query,
            lesson.answer,
            lesson.said_at,
        )
        marks = ", ".join("?" * len(values))
        sql = f"INSERT INTO lesson({_COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        await self._database.write(lambda db: db.execute(sql, values).rowcount)

    async def due(self, now: float, limit: int) -> Sequence[Lesson]:
        sql = (
            f"SELECT {_COLUMNS}, tries, facts FROM lesson WHERE due_at <= ? "
            "ORDER BY due_at, run_id LIMIT ?"
        )

        def work(db: sqlite3.Connection) -> Sequence[Lesson]:
            return [_lesson(row) for row in db.execute(sql, (now, limit))]

        return await self._database.read(work)

    async def done(self, run_id: str) -> None:
        sql = "DELETE FROM lesson WHERE run_id = ?"
        await self._database.write(lambda db: db.execute(sql, (run_id,)).rowcount)
        try:
            await self._database.write_out()
        except Unavailable as error:  # the next one that is done takes it along
            _log.warning("what is learned is not gone from the log yet", error=error.message)

    async def drop(self, erasure: Erasure) -> int:
        sql = (
            "DELETE FROM lesson WHERE tenant = ? AND principal = ? "
            "AND (? = '' OR agent = ?) AND (? = '' OR session = ?)"
        )
        agent, session = erasure.agent, erasure.session
        values = (erasure.tenant, erasure.principal, agent, agent, session, session)
        dropped = await self._database.write(lambda db: db.execute(sql, values).rowcount)
        await self._database.wipe()  # also where an earlier try came to the first half only
        return dropped

    async def drop_of(self, run_ids: Collection[str]) -> None:
        sql = "DELETE FROM lesson WHERE run_id IN (SELECT value FROM json_each(?))"
        values = (json.dumps(list(run_ids)),)
        await self._database.write(lambda db: db.execute(sql, values).rowcount)
        await self._database.wipe()

    async def again(self, run_id: str, at: float) -> None:
        sql = "UPDATE lesson SET tries = tries + 1, due_at = ? WHERE run_id = ?"
        await self._database.write(lambda db: db.execute(sql, (at, run_id)).rowcount)

    async def found(self, run_id: str, facts: Sequence[str]) -> None:
        sql = "UPDATE lesson SET facts = ? WHERE run_id = ?"
        kept = json.dumps(list(facts))
        await self._database.write(lambda db: db.execute(sql, (kept, run_id)).rowcount)


def _lesson(row: Sequence[Any]) -> Lesson:
    *said, facts = row
    lesson = Lesson(*said)
    return lesson if facts is None else replace(lesson, facts=tuple(json.loads(facts)))
