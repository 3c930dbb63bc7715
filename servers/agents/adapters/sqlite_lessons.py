"""What runs may leave in memory, in a SQLite file of the process that ran them."""

import sqlite3
from collections.abc import Sequence

from servers.agents.ports import Lesson
from servers.kernel.sqlite import Database

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
)

_COLUMNS = "run_id, tenant, agent, session, principal, tree, query, answer"


class SqliteLessons:
    """Needs a database that was opened with MIGRATIONS."""

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
        )
        marks = ", ".join("?" * len(values))
        sql = f"INSERT INTO lesson({_COLUMNS}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        await self._database.write(lambda db: db.execute(sql, values).rowcount)

    async def due(self, now: float, limit: int) -> Sequence[Lesson]:
        sql = (
            f"SELECT {_COLUMNS}, tries FROM lesson WHERE due_at <= ? "
            "ORDER BY due_at, run_id LIMIT ?"
        )

        def work(db: sqlite3.Connection) -> Sequence[Lesson]:
            return [Lesson(*row) for row in db.execute(sql, (now, limit))]

        return await self._database.read(work)

    async def done(self, run_id: str) -> None:
        sql = "DELETE FROM lesson WHERE run_id = ?"
        await self._database.write(lambda db: db.execute(sql, (run_id,)).rowcount)

    async def again(self, run_id: str, at: float) -> None:
        sql = "UPDATE lesson SET tries = tries + 1, due_at = ? WHERE run_id = ?"
        await self._database.write(lambda db: db.execute(sql, (at, run_id)).rowcount)
