"""Trees of runs in PostgreSQL, to be deleted."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from servers.agents.adapters.postgres.principals import name_principals
from servers.agents.ports import Kin
from servers.domain.runs import RunSelection
from servers.kernel.postgres import Connection, Postgres

# In one order, so that two who delete the same don't wait for each other in a circle.
_LOCK: Final = (
    "SELECT root, ended_at IS NOT NULL AS ended FROM astromesh_run "
    "WHERE tenant = $1 AND root = ANY($2::text[]) ORDER BY run_id FOR UPDATE"
)
_DELETE: Final = """
WITH gone AS MATERIALIZED (
    DELETE FROM astromesh_run WHERE tenant = $1 AND root = ANY($2::text[]) RETURNING run_id
),
logs AS (DELETE FROM astromesh_run_event AS event USING gone WHERE event.run_id = gone.run_id)
SELECT count(*) FROM gone
"""


class PostgresTrees:
    """Satisfies `RunTrees`. The tables are there."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def roots(
        self, tenant: str, which: RunSelection, after: str, limit: int
    ) -> Sequence[str]:
        if which.principal:
            await name_principals(self._postgres)
        sql, values = _selection(tenant, which, after, limit)
        return [row["root"] for row in await self._postgres.fetch(sql, *values)]

    async def kin(self, tenant: str, roots: Collection[str]) -> Sequence[Kin]:
        sql = (
            "SELECT run_id, root, ended_at IS NOT NULL AS ended FROM astromesh_run "
            "WHERE tenant = $1 AND root = ANY($2::text[])"
        )
        found = await self._postgres.fetch(sql, tenant, list(roots))
        return [Kin(row["run_id"], row["root"], row["ended"]) for row in found]

    async def delete(self, tenant: str, roots: Collection[str]) -> int:
        async def work(connection: Connection) -> int:
            async with connection.transaction():
                locked = await connection.fetch(_LOCK, tenant, list(roots))
                left = {row["root"] for row in locked if not row["ended"]}
                ended = [root for root in roots if root not in left]
                # Another statement, as it sees what was written until the locks were had: a log
                # that was made smaller meanwhile has new rows.
                return int(await connection.fetchval(_DELETE, tenant, ended))

        return await self._postgres.steadily(work)

    async def wipe(self) -> None:
        """The files are the server's."""


def _selection(tenant: str, which: RunSelection, after: str, limit: int) -> tuple[str, list[Any]]:
    conditions: list[str] = ["tenant = $1", "root > $2"]
    values: list[Any] = [tenant, after, limit]
    for column in ("principal", "session", "agent"):
        if wanted := getattr(which, column):
            values.append(wanted)
            # The last condition is what lets a partial index be used.
            conditions.append(f"{column} = ${len(values)} AND {column} <> ''")
    if which.ended_before is not None:
        values.append(which.ended_before)
        conditions.append(f"ended_at < ${len(values)}")
    first = (
        "(run_id = root OR NOT EXISTS (SELECT 1 FROM astromesh_run AS first "
        "WHERE first.run_id = run.root AND first.tenant = run.tenant))"
    )
    sql = (
        f"SELECT DISTINCT root FROM astromesh_run AS run WHERE {' AND '.join(conditions)} "
        f"AND {first} ORDER BY root LIMIT $3"
    )
    return sql, values
