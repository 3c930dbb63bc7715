"""Ends of runs that webhooks are to be told of, in the SQLite file of the runs."""

import json
import sqlite3
from collections.abc import Callable, Sequence
from math import isinf

from servers.agents.adapters.run_codec import run_from
from servers.domain.runs import Run
from servers.kernel.sqlite import Database


class SqliteOutbox:
    """Needs a database that was opened with the MIGRATIONS of runs."""

    def __init__(self, database: Database, now: Callable[[], float]) -> None:
        self._database, self._now = database, now

    async def undelivered(self, limit: int, lease: float) -> Sequence[tuple[Run, int]]:
        now = self._now()

        def work(connection: sqlite3.Connection) -> list[tuple[bytes, int]]:
            found = connection.execute(
                "SELECT run_id, body, webhook_tries FROM run "
                "WHERE webhook_at <= ? ORDER BY webhook_at, run_id LIMIT ?",
                (now, limit),
            ).fetchall()
            connection.execute(
                "UPDATE run SET webhook_at = ?, webhook_tries = webhook_tries + 1 "
                "WHERE run_id IN (SELECT value FROM json_each(?))",
                (now + lease, json.dumps([run_id for run_id, *_ in found])),
            )
            return [(body, tries) for _, body, tries in found]

        found = await self._database.write(work)
        return [(run_from(body), tries) for body, tries in found]

    async def delivered(self, run_id: str) -> None:
        await self._due(run_id, None)

    async def try_again(self, run_id: str, after: float) -> None:
        await self._due(run_id, None if isinf(after) else self._now() + after)

    async def _due(self, run_id: str, at: float | None) -> None:
        sql = "UPDATE run SET webhook_at = ? WHERE run_id = ? AND webhook_at IS NOT NULL"
        await self._database.write(lambda c: c.execute(sql, (at, run_id)).rowcount)
