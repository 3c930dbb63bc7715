"""Agents declared through the API, in PostgreSQL, for several processes at a time.

A key that was sent as `api_key` is stored as it is: the database is as secret as the keys
in it. `api_key_env` keeps keys out of it.
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from servers.agents.ports import StoredAgent
from servers.kernel.errors import Conflict
from servers.kernel.postgres import Postgres

MIGRATIONS = (
    """
    CREATE TABLE astromesh_agent(
        tenant text COLLATE "C" NOT NULL,
        name text COLLATE "C" NOT NULL,
        manifest bytea NOT NULL,      -- the canonical form as JSON, secrets included
        revision int NOT NULL,
        created_at float8 NOT NULL,   -- seconds since the epoch
        updated_at float8 NOT NULL,
        PRIMARY KEY(tenant, name)
    );
    """,
)
_COLUMNS: Final = "tenant, name, manifest, revision, created_at, updated_at"
_INSERT: Final = (
    f"INSERT INTO astromesh_agent({_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6) "
    "ON CONFLICT DO NOTHING RETURNING 1"
)
_UPDATE: Final = (
    "UPDATE astromesh_agent SET manifest = $3, revision = $4, created_at = $5, updated_at = $6 "
    "WHERE tenant = $1 AND name = $2 AND revision = $4 - 1 RETURNING 1"
)


class PostgresAgents:
    """Satisfies `AgentStore`. The table is there."""

    shared: bool = True

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def get(self, tenant: str, name: str) -> StoredAgent | None:
        sql = f"SELECT {_COLUMNS} FROM astromesh_agent WHERE tenant = $1 AND name = $2"
        found = await self._postgres.fetch(sql, tenant, name)
        return _stored(found[0]) if found else None

    async def list(self, tenant: str, after: str, limit: int) -> Sequence[StoredAgent]:
        sql = (
            f"SELECT {_COLUMNS} FROM astromesh_agent WHERE tenant = $1 AND name > $2 "
            "ORDER BY name LIMIT $3"
        )
        return [_stored(row) for row in await self._postgres.fetch(sql, tenant, after, limit)]

    async def put(self, agent: StoredAgent) -> None:
        row = (
            agent.tenant,
            agent.name,
            orjson.dumps(agent.manifest),
            agent.revision,
            agent.created_at,
            agent.updated_at,
        )
        if await self._postgres.fetch(_INSERT if agent.revision == 1 else _UPDATE, *row):
            return
        # It may have been done by a try of which nobody has heard what came of it.
        if await self.get(agent.tenant, agent.name) != agent:
            raise _changed(agent.name)

    async def delete(self, tenant: str, name: str, revision: int) -> None:
        sql = (
            "DELETE FROM astromesh_agent WHERE tenant = $1 AND name = $2 AND revision = $3 "
            "RETURNING 1"
        )
        if not await self._postgres.fetch(sql, tenant, name, revision):
            raise _changed(name)


def _changed(name: str) -> Conflict:
    return Conflict(
        f"agent {name!r} was changed by somebody else; read it again, then retry",
        reason="ETAG_MISMATCH",
        agent=name,
    )


def _stored(row: Any) -> StoredAgent:
    tenant, name, manifest, revision, created_at, updated_at = row
    return StoredAgent(tenant, name, orjson.loads(manifest), revision, created_at, updated_at)
