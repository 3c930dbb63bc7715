"""Who works on which run of a SQLite file: always the one process that has the file open.

What remains of leases is that of several who take a waiting run one gets it.
"""

import json
import sqlite3
from collections.abc import Callable, Collection, Sequence
from itertools import groupby
from math import inf
from typing import Final

from servers.agents.adapters.changes import News
from servers.agents.adapters.run_codec import Row, events_of, run_from
from servers.agents.adapters.run_rows import WAITING, no_run, not_waiting
from servers.agents.ports import Beat
from servers.domain.run_events import RunEvent
from servers.domain.runs import Run
from servers.kernel.sqlite import Database

_AMONG: Final = "IN (SELECT value FROM json_each(?))"
_OPEN: Final = (
    f"SELECT run_id, body, created_at FROM run WHERE state IN ('queued', 'running') "
    f"AND run_id NOT {_AMONG} UNION ALL "
    f"SELECT run_id, body, created_at FROM run WHERE wake_at <= ? AND run_id NOT {_AMONG} "
    "ORDER BY created_at, run_id LIMIT ?"
)


class SqliteLeases:
    """Needs a database that was opened with MIGRATIONS. `owner` names this life of the
    process: what a former one had taken can be taken again."""

    lease: float = inf
    shared: bool = False

    def __init__(self, database: Database, now: Callable[[], float], owner: str) -> None:
        self._database, self._now, self._owner = database, now, owner
        self._news = News()

    async def claim(
        self, besides: Collection[str], limit: int
    ) -> Sequence[tuple[Run, Sequence[RunEvent]]]:
        busy, now = json.dumps(list(besides)), self._now()

        def work(connection: sqlite3.Connection) -> list[tuple[str, bytes]]:
            """Behind the writes that were asked for before, of runs that are in `besides`,
            and before all that will be."""
            found = connection.execute(_OPEN, (busy, now, busy, limit)).fetchall()
            ids = json.dumps([run_id for run_id, *_ in found])
            connection.execute(
                f"UPDATE run SET held_by = ? WHERE run_id {_AMONG}", (self._owner, ids)
            )
            return [(run_id, body) for run_id, body, _ in found]

        found = await self._database.write(work)
        logs = await self._logs([run_id for run_id, _ in found])
        return [(run_from(body), logs.get(run_id, [])) for run_id, body in found]

    async def take(self, tenant: str, run_id: str) -> tuple[Run, Sequence[RunEvent]]:
        def work(connection: sqlite3.Connection) -> bytes:
            found = connection.execute(
                "SELECT state, held_by, body FROM run WHERE run_id = ? AND tenant = ?",
                (run_id, tenant),
            ).fetchone()
            if found is None:
                raise no_run(run_id)
            state, held_by, body = found
            if state not in WAITING or held_by == self._owner:
                raise not_waiting(run_id, state)
            connection.execute("UPDATE run SET held_by = ? WHERE run_id = ?", (self._owner, run_id))
            return bytes(body)

        body = await self._database.write(work)
        return run_from(body), (await self._logs([run_id])).get(run_id, [])

    async def renew(self, run_ids: Collection[str]) -> Beat:
        sql = f"SELECT run_id, cancel FROM run WHERE cancel IS NOT NULL AND run_id {_AMONG}"
        values = (json.dumps(list(run_ids)),)
        found = await self._database.read(lambda c: c.execute(sql, values).fetchall())
        return Beat(cancelled=dict(found))

    async def release(self, run_ids: Collection[str]) -> None:
        sql = f"UPDATE run SET held_by = '' WHERE held_by != '' AND run_id {_AMONG}"
        values = (json.dumps(list(run_ids)),)
        await self._database.write(lambda connection: connection.execute(sql, values).rowcount)
        self._news.tell()

    async def ask_cancel(self, tenant: str, run_id: str, reason: str) -> None:
        sql = "UPDATE run SET cancel = ? WHERE run_id = ? AND tenant = ?"
        values = (reason, run_id, tenant)
        if not await self._database.write(lambda c: c.execute(sql, values).rowcount):
            raise no_run(run_id)
        self._news.tell()

    async def news(self, seconds: float) -> None:
        await self._news.wait(seconds)

    async def _logs(self, run_ids: Sequence[str]) -> dict[str, list[RunEvent]]:
        sql = (
            f"SELECT run_id, seq, last, time, body FROM run_event WHERE run_id {_AMONG} "
            "ORDER BY run_id, seq"
        )

        def work(connection: sqlite3.Connection) -> dict[str, list[RunEvent]]:
            rows = connection.execute(sql, (json.dumps(run_ids),))
            return {
                run_id: [event for row in log for event in events_of(run_id, Row(*row[1:]))]
                for run_id, log in groupby(rows, key=lambda row: str(row[0]))
            }

        return await self._database.read(work)
