"""How a database comes to have the tables of one part of the mesh. Needs the extra `postgres`.

A published migration never changes. An older program goes on beside a newer one that
has migrated, so that replicas can be replaced one by one: a migration only ever adds.
"""

from collections.abc import Sequence

import asyncpg

from servers.kernel.errors import NotReady
from servers.kernel.postgres import Connection, Postgres

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
