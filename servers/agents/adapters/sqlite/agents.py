"""Agents declared through the API, in a SQLite file, which belongs to one process.

A key that was sent as `api_key` is stored as it is: the file is as secret as the keys in
it. `api_key_env` keeps keys out of it.
"""

import sqlite3
from collections.abc import Sequence
from typing import Any

import orjson

from servers.agents.ports import StoredAgent
from servers.kernel.errors import Conflict
from servers.kernel.sqlite import Database

MIGRATIONS = (
    """
    CREATE TABLE agent(
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        revision INTEGER NOT NULL,
        created_at REAL NOT NULL,  -- seconds since the epoch
        updated_at REAL NOT NULL,
        manifest BLOB NOT NULL,    -- the canonical form as JSON, secrets included
        PRIMARY KEY(tenant, name)
    ) WITHOUT ROWID;
    """,
)
_COLUMNS = "tenant, name, manifest, revision, created_at, updated_at"


class SqliteAgents:
    """Needs a database that was opened with MIGRATIONS."""

    shared: bool = False

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, tenant: str, name: str) -> StoredAgent | None:
        sql = f"SELECT {_COLUMNS} FROM agent WHERE tenant = ? AND name = ?"

        def work(connection: sqlite3.Connection) -> StoredAgent | None:
            row = connection.execute(sql, (tenant, name)).fetchone()
            return _stored(row) if row else None

        return await self._database.read(work)

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[StoredAgent]:
        sql = f"SELECT {_COLUMNS} FROM agent WHERE tenant = ? AND name > ? ORDER BY name LIMIT ?"

        def work(connection: sqlite3.Connection) -> Sequence[StoredAgent]:
            return [_stored(row) for row in connection.execute(sql, (tenant, after, limit))]

        return await self._database.read(work)

    async def put(self, agent: StoredAgent) -> None:
        values = (agent.tenant, agent.name, orjson.dumps(agent.manifest), agent.revision)
        times = (agent.created_at, agent.updated_at)

        def work(connection: sqlite3.Connection) -> None:
            _expect(connection, agent.tenant, agent.name, agent.revision - 1)
            connection.execute(
                f"INSERT OR REPLACE INTO agent({_COLUMNS}) VALUES(?, ?, ?, ?, ?, ?)",
                (*values, *times),
            )

        await self._database.write(work)

    async def delete(self, tenant: str, name: str, revision: int) -> None:
        def work(connection: sqlite3.Connection) -> None:
            _expect(connection, tenant, name, revision)
            connection.execute("DELETE FROM agent WHERE tenant = ? AND name = ?", (tenant, name))

        await self._database.write(work)


def _expect(connection: sqlite3.Connection, tenant: str, name: str, revision: int) -> None:
    row = connection.execute(
        "SELECT revision FROM agent WHERE tenant = ? AND name = ?", (tenant, name)
    ).fetchone()
    if (row[0] if row else 0) != revision:
        raise Conflict(
            f"agent {name!r} was changed by somebody else; read it again, then retry",
            reason="ETAG_MISMATCH",
            agent=name,
        )


def _stored(row: Sequence[Any]) -> StoredAgent:
    tenant, name, manifest, revision, created_at, updated_at = row
    return StoredAgent(tenant, name, orjson.loads(manifest), revision, created_at, updated_at)
