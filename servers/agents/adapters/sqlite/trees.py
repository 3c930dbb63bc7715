"""Trees of runs in a SQLite file, to be deleted."""

import json
import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final

from servers.agents.ports import Kin
from servers.domain.runs import RunSelection
from servers.kernel.sqlite import Database

_AMONG: Final = "root IN (SELECT value FROM json_each(?))"
_OPEN: Final = f"SELECT root FROM run WHERE tenant = ? AND {_AMONG} AND ended_at IS NULL"


class SqliteTrees:
    """Needs a database that was opened with the MIGRATIONS of runs, `erasing`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def roots(
        self, tenant: str, which: RunSelection, after: str, limit: int
    ) -> Sequence[str]:
        sql, values = _selection(tenant, which, after, limit)
        found = await self._database.read(lambda c: c.execute(sql, values).fetchall())
        return [root for (root,) in found]

    async def kin(self, tenant: str, roots: Collection[str]) -> Sequence[Kin]:
        sql = f"SELECT run_id, root, ended_at IS NOT NULL FROM run WHERE tenant = ? AND {_AMONG}"
        values = (tenant, json.dumps(list(roots)))
        found = await self._database.read(lambda c: c.execute(sql, values).fetchall())
        return [Kin(run_id, root, bool(ended)) for run_id, root, ended in found]

    async def delete(self, tenant: str, roots: Collection[str]) -> int:
        def work(connection: sqlite3.Connection) -> int:
            open_ones = connection.execute(_OPEN, (tenant, json.dumps(list(roots))))
            left = {root for (root,) in open_ones}
            ended = json.dumps([root for root in roots if root not in left])
            sql = f"DELETE FROM run WHERE tenant = ? AND {_AMONG}"  # the logs go with them
            return connection.execute(sql, (tenant, ended)).rowcount

        return await self._database.write(work)

    async def wipe(self) -> None:
        await self._database.wipe()


def _selection(tenant: str, which: RunSelection, after: str, limit: int) -> tuple[str, list[Any]]:
    conditions: list[str] = ["tenant = ?", "root > ?"]
    values: list[Any] = [tenant, after]
    for column in ("principal", "session", "agent"):
        if wanted := getattr(which, column):
            # The last condition is what lets SQLite use a partial index.
            conditions.append(f"{column} = ? AND {column} != ''")
            values.append(wanted)
    if which.ended_before is not None:
        conditions.append("ended_at < ?")
        values.append(which.ended_before)
    first = (
        "(run_id = root OR NOT EXISTS "
        "(SELECT 1 FROM run AS first WHERE first.run_id = run.root AND first.tenant = run.tenant))"
    )
    sql = (
        f"SELECT DISTINCT root FROM run WHERE {' AND '.join(conditions)} AND {first} "
        "ORDER BY root LIMIT ?"
    )
    return sql, [*values, limit]
