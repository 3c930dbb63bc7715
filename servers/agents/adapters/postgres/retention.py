"""What the PostgreSQL of the runs forgets, and the declarations that it keeps for them."""

from collections.abc import Sequence
from typing import Final

from servers.agents.adapters.compaction import compacted
from servers.agents.adapters.postgres.statements import NOW
from servers.agents.adapters.run_codec import Row
from servers.domain.chat import Json
from servers.kernel.postgres import Connection, Postgres
from servers.kernel.stored_json import dumps, loads

_AN_HOUR: Final = 3600.0
_A_DAY: Final = 86400.0  # that a declaration is kept at least, though no run is on record yet

_OLD: Final = """
SELECT run_id FROM astromesh_run AS run
WHERE ended_at < $1 AND webhook_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM astromesh_run AS first
    WHERE first.run_id = run.root AND first.ended_at IS NULL)
ORDER BY ended_at LIMIT $2 FOR UPDATE OF run SKIP LOCKED
"""
_FORGET: Final = """
WITH logs AS (DELETE FROM astromesh_run_event WHERE run_id = ANY($1::text[]))
DELETE FROM astromesh_run WHERE run_id = ANY($1::text[])
"""
_UNUSED: Final = f"""
DELETE FROM astromesh_agent_version AS version WHERE kept_at < least($1, {NOW} - {_A_DAY})
    AND NOT EXISTS (SELECT 1 FROM astromesh_run AS run
        WHERE run.agent_digest = version.digest AND run.ended_at IS NULL)
"""


class PostgresVersions:
    """Satisfies `AgentVersions`. The tables are there."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def keep(self, digest: str, manifest: Json) -> None:
        sql = f"SELECT 1 FROM astromesh_agent_version WHERE digest = $1 AND kept_at > {NOW} - $2"
        if await self._postgres.fetch(sql, digest, _AN_HOUR):
            return
        put = (
            "INSERT INTO astromesh_agent_version(digest, kept_at, manifest) "
            f"VALUES ($1, {NOW}, $2) ON CONFLICT (digest) DO UPDATE SET kept_at = excluded.kept_at"
        )
        await self._postgres.fetch(put, digest, dumps(manifest))

    async def kept(self, digest: str) -> Json | None:
        sql = "SELECT manifest FROM astromesh_agent_version WHERE digest = $1"
        found = await self._postgres.fetch(sql, digest)
        return loads(found[0]["manifest"]) if found else None


class PostgresRetention:
    """Satisfies `Retention`. The tables are there."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def forget(self, ended_before: float, limit: int) -> int:
        async def work(connection: Connection) -> int:
            async with connection.transaction():
                old = [row["run_id"] for row in await connection.fetch(_OLD, ended_before, limit)]
                # Another statement, as it sees what was written until the locks were had: a log
                # that was made smaller meanwhile has new rows.
                await connection.execute(_FORGET, old)
                return len(old)

        forgotten = await self._postgres.steadily(work)
        await self._postgres.fetch(_UNUSED, ended_before)
        return forgotten

    async def compact(self, ended_before: float, limit: int) -> int:
        sql = (
            "SELECT run_id FROM astromesh_run WHERE ended_at IS NOT NULL AND NOT compacted "
            "AND ended_at < $1 ORDER BY ended_at LIMIT $2"
        )
        smaller = 0
        while smaller == 0:  # some have nothing to drop: nobody shall think that all is done
            found = await self._postgres.fetch(sql, ended_before, limit)
            if not found:
                break
            for row in found:
                smaller += await self._compact(row["run_id"])
        return smaller

    async def _compact(self, run_id: str) -> bool:
        async def work(connection: Connection) -> bool:
            async with connection.transaction():
                return await _make_smaller(connection, run_id)

        return await self._postgres.steadily(work)


async def _make_smaller(connection: Connection, run_id: str) -> bool:
    mark = (
        "UPDATE astromesh_run SET compacted = true WHERE run_id = $1 AND NOT compacted RETURNING 1"
    )
    if not await connection.fetch(mark, run_id):
        return False  # another process was faster
    read = "SELECT seq, last, time, body FROM astromesh_run_event WHERE run_id = $1 ORDER BY seq"
    rows = compacted(run_id, [Row(*row) for row in await connection.fetch(read, run_id)])
    if rows is not None:
        await _replace(connection, run_id, rows)
    return rows is not None


async def _replace(connection: Connection, run_id: str, rows: Sequence[Row]) -> None:
    await connection.execute("DELETE FROM astromesh_run_event WHERE run_id = $1", run_id)
    await connection.executemany(
        "INSERT INTO astromesh_run_event(run_id, seq, last, time, body) "
        "VALUES ($1, $2, $3, $4, $5)",
        [(run_id, row.first, row.last, row.time, row.body) for row in rows],
    )
