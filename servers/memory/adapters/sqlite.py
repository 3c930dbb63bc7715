"""Conversations in a SQLite file."""

import sqlite3
from collections.abc import Sequence

from servers.domain.chat import Message
from servers.domain.memory import SessionKey, Turn
from servers.kernel.sqlite import Database
from servers.kernel.stored_json import dumps, loads, message_from

MIGRATIONS = (
    """
    CREATE TABLE session(
        id INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        agent TEXT NOT NULL,
        session TEXT NOT NULL,
        next_index INTEGER NOT NULL DEFAULT 0,  -- of its next turn; also how many it has had
        UNIQUE(tenant, agent, session)
    );
    CREATE TABLE turn(
        session_id INTEGER NOT NULL REFERENCES session(id) ON DELETE CASCADE,
        idx INTEGER NOT NULL,
        run_id TEXT NOT NULL,
        created_at REAL NOT NULL,  -- seconds since the epoch
        message BLOB NOT NULL,     -- JSON, see kernel/stored_json.py
        PRIMARY KEY(session_id, idx)
    ) WITHOUT ROWID;
    CREATE INDEX turn_by_run ON turn(session_id, run_id) WHERE run_id != '';
    """,
)

_SESSION = "(SELECT id FROM session WHERE tenant = ? AND agent = ? AND session = ?)"


class SqliteConversations:
    """Needs a database that was opened with MIGRATIONS."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(
        self, key: SessionKey, messages: Sequence[Message], run_id: str, at: float
    ) -> int:
        bodies = [dumps(message) for message in messages]

        def work(connection: sqlite3.Connection) -> int:
            session, first = _session(connection, key)
            if run_id and _wrote(connection, session, run_id):
                return first
            rows = [(session, first + n, run_id, at, body) for n, body in enumerate(bodies)]
            connection.executemany("INSERT INTO turn VALUES (?, ?, ?, ?, ?)", rows)
            total = first + len(rows)
            connection.execute("UPDATE session SET next_index = ? WHERE id = ?", (total, session))
            return total

        return await self._database.write(work)

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Turn]:
        sql = (
            "SELECT idx, message, created_at, run_id FROM turn "
            f"WHERE session_id = {_SESSION} AND idx > ? ORDER BY idx LIMIT ?"
        )
        where = (key.tenant, key.agent, key.session, after, limit)
        return await self._database.read(lambda connection: _turns(connection, sql, where))

    async def newest(self, key: SessionKey, limit: int) -> tuple[Sequence[Turn], int]:
        sql = (
            "SELECT idx, message, created_at, run_id FROM turn "
            f"WHERE session_id = {_SESSION} ORDER BY idx DESC LIMIT ?"
        )
        where = (key.tenant, key.agent, key.session, limit)
        newest = await self._database.read(lambda connection: _turns(connection, sql, where))
        # Turns are only ever deleted all together, so the last index tells their number.
        return newest[::-1], newest[0].index + 1 if newest else 0

    async def clear(self, key: SessionKey) -> int:
        def work(connection: sqlite3.Connection) -> int:
            found = connection.execute(
                "DELETE FROM session WHERE tenant = ? AND agent = ? AND session = ? "
                "RETURNING next_index",
                (key.tenant, key.agent, key.session),
            ).fetchall()
            return sum(count for (count,) in found)

        return await self._database.write(work)


def _session(connection: sqlite3.Connection, key: SessionKey) -> tuple[int, int]:
    """The session's id and the index of its next turn; a new session where there is none."""
    names = (key.tenant, key.agent, key.session)
    found = connection.execute(
        "SELECT id, next_index FROM session WHERE tenant = ? AND agent = ? AND session = ?", names
    ).fetchone()
    if found is None:
        made = connection.execute(
            "INSERT INTO session(tenant, agent, session) VALUES (?, ?, ?)", names
        )
        return made.lastrowid or 0, 0
    return found[0], found[1]


def _wrote(connection: sqlite3.Connection, session: int, run_id: str) -> bool:
    # The second condition is what lets SQLite use the partial index.
    found = connection.execute(
        "SELECT 1 FROM turn WHERE session_id = ? AND run_id = ? AND run_id != '' LIMIT 1",
        (session, run_id),
    )
    return found.fetchone() is not None


def _turns(connection: sqlite3.Connection, sql: str, where: tuple[str | int, ...]) -> list[Turn]:
    return [
        Turn(index, message_from(loads(body)), at, run_id)
        for index, body, at, run_id in connection.execute(sql, where)
    ]
