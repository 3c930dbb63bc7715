"""The tables of runs in PostgreSQL, and how a database comes to have them.

A published migration never changes. An older program goes on beside a newer one that
has migrated, so that replicas can be replaced one by one: a migration only ever adds.
"""

from collections.abc import Sequence

import asyncpg

from servers.agents.adapters.postgres_client import Connection, Postgres
from servers.kernel.errors import NotReady

MIGRATIONS = (
    """
    CREATE TABLE astromesh_run(
        run_id text COLLATE "C" PRIMARY KEY,
        tenant text COLLATE "C" NOT NULL,
        agent text COLLATE "C" NOT NULL,
        session text COLLATE "C" NOT NULL,
        state text NOT NULL,
        created_at float8 NOT NULL,     -- times are in seconds since the epoch
        parent text COLLATE "C" NOT NULL,
        root text COLLATE "C" NOT NULL, -- of its tree; of the first run its own id
        wake_at float8,                 -- when it goes on by itself, if it waits
        ended_at float8,                -- NULL: it has not ended
        agent_digest text COLLATE "C" NOT NULL,
        body bytea NOT NULL,            -- the whole run as JSON
        request_id text COLLATE "C" NOT NULL,
        request_hash text COLLATE "C" NOT NULL,
        owner text COLLATE "C" NOT NULL,  -- who may append to the log
        lease_until float8 NOT NULL,      -- 0: nobody works on it
        cancel text,                      -- why somebody asked to cancel it
        webhook_at float8,                -- when its end is to be told; NULL: never
        webhook_tries int NOT NULL DEFAULT 0,
        compacted bool NOT NULL DEFAULT false
    ) WITH (fillfactor = 80);  -- leases are renewed in place: no index has their columns
    CREATE UNIQUE INDEX astromesh_run_by_request ON astromesh_run(tenant, request_id)
        WHERE request_id <> '';
    CREATE INDEX astromesh_run_by_time ON astromesh_run(tenant, created_at, run_id);
    CREATE INDEX astromesh_run_by_agent ON astromesh_run(tenant, agent, created_at, run_id);
    CREATE INDEX astromesh_run_by_session ON astromesh_run(tenant, session, created_at, run_id);
    CREATE INDEX astromesh_run_by_parent ON astromesh_run(tenant, parent, created_at, run_id)
        WHERE parent <> '';
    CREATE INDEX astromesh_run_by_root ON astromesh_run(tenant, root, created_at, run_id);
    CREATE INDEX astromesh_run_in_line
        ON astromesh_run(tenant, agent, session, created_at, run_id) WHERE ended_at IS NULL;
    CREATE INDEX astromesh_run_at_work ON astromesh_run(created_at, run_id)
        WHERE state IN ('queued', 'running');
    CREATE INDEX astromesh_run_wakes ON astromesh_run(wake_at) WHERE wake_at IS NOT NULL;
    CREATE INDEX astromesh_run_by_digest ON astromesh_run(agent_digest) WHERE ended_at IS NULL;
    CREATE INDEX astromesh_run_ended ON astromesh_run(ended_at) WHERE ended_at IS NOT NULL;
    CREATE INDEX astromesh_run_to_compact ON astromesh_run(ended_at)
        WHERE ended_at IS NOT NULL AND NOT compacted;
    CREATE INDEX astromesh_run_to_tell ON astromesh_run(webhook_at) WHERE webhook_at IS NOT NULL;
    -- Without a foreign key: it would lock the run a second time for each row.
    CREATE TABLE astromesh_run_event(
        run_id text COLLATE "C" NOT NULL,
        seq int8 NOT NULL,    -- of the first event in the row
        last int8 NOT NULL,   -- of the last one
        time float8 NOT NULL, -- of the first
        body bytea NOT NULL,  -- the events as JSON
        PRIMARY KEY(run_id, seq)
    );
    CREATE TABLE astromesh_agent_version(
        digest text COLLATE "C" PRIMARY KEY,
        kept_at float8 NOT NULL, -- when it was asked for last, to the hour
        manifest bytea NOT NULL  -- as JSON
    );
    """,
)
_PATIENCE = 600.0  # seconds for tables that are large already, and for who is at it before
_LOCK = 7_263_041_955_110_412_321  # any number that no other program takes


async def migrate(postgres: Postgres, part: str, migrations: Sequence[str]) -> None:
    """Bring one part of the schema to version ``len(migrations)``.

    Where it is there already this only reads: a statement that changes tables would stand
    in line behind whoever uses them, and everybody else behind it.
    """
    connection = await postgres.connect()  # whose end is the end of the lock, too
    try:
        if await _version(connection, part, len(migrations), postgres.where) < len(migrations):
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK, timeout=_PATIENCE)
            await _migrate(connection, part, migrations, postgres.where)
    except (asyncpg.InsufficientPrivilegeError, asyncpg.InvalidSchemaNameError) as error:
        raise NotReady(
            f"{postgres.where} does not let this user make the tables of {part}: {error}; "
            "GRANT USAGE, CREATE ON SCHEMA to it",
            reason="STATE_NOT_WRITABLE",
        ) from error
    finally:
        await connection.close()


async def _migrate(
    connection: Connection, part: str, migrations: Sequence[str], where: str
) -> None:
    await connection.execute(
        "CREATE TABLE IF NOT EXISTS astromesh_schema(part text PRIMARY KEY, version int NOT NULL)"
    )
    version = await _version(connection, part, len(migrations), where)
    for number, sql in enumerate(migrations[version:], version + 1):
        async with connection.transaction():
            await connection.execute(sql, timeout=_PATIENCE)
            await connection.execute(
                "INSERT INTO astromesh_schema(part, version) VALUES ($1, $2) "
                "ON CONFLICT (part) DO UPDATE SET version = excluded.version",
                part,
                number,
            )


async def _version(connection: Connection, part: str, known: int, where: str) -> int:
    if await connection.fetchval("SELECT to_regclass('astromesh_schema')") is None:
        return 0
    sql = "SELECT version FROM astromesh_schema WHERE part = $1"
    version = int(await connection.fetchval(sql, part) or 0)
    if version > known:
        raise NotReady(
            f"{where} was written by a newer version of this program (schema of {part} {version}, "
            f"known up to {known}): upgrade, or choose another database or search_path",
            reason="STATE_TOO_NEW",
        )
    return version
