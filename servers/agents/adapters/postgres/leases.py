"""Who works on which run in PostgreSQL. All times are the database's."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from typing import Any, Final

from servers.agents.adapters.postgres.listening import Listening
from servers.agents.adapters.postgres.statements import NOW
from servers.agents.adapters.postgres.writer import Writer
from servers.agents.adapters.run_codec import Row, events_of, run_from
from servers.agents.adapters.run_rows import WAITING, no_run, not_waiting
from servers.agents.ports import Beat
from servers.domain.run_events import RunEvent
from servers.domain.runs import Run
from servers.kernel.postgres import Connection, Postgres

_AT_THE_END: Final = 3.0  # seconds: a process that stops has no more

# Who is claiming at the same time passes by what the other one has in hand.
_CLAIM: Final = f"""
WITH open AS MATERIALIZED (
    SELECT run_id FROM astromesh_run
    WHERE (state IN ('queued', 'running') OR wake_at <= {NOW})
        AND (lease_until <= {NOW} OR owner = $1) AND run_id <> ALL($3::text[])
    ORDER BY created_at, run_id LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE astromesh_run AS run SET owner = $1, lease_until = {NOW} + $2
FROM open WHERE run.run_id = open.run_id RETURNING run.run_id, run.created_at, run.body
"""
_TAKE: Final = f"""
UPDATE astromesh_run SET owner = $1, lease_until = {NOW} + $2
WHERE run_id = $3 AND tenant = $4 AND state = ANY($5::text[])
    AND (lease_until <= {NOW} OR ($6 AND owner = $1)) RETURNING body
"""
# 0 stays: what waits, or was released, is nobody's.
_RENEW: Final = f"""
WITH beat AS (
    UPDATE astromesh_run SET lease_until = {NOW} + $2
    WHERE run_id = ANY($3::text[]) AND owner = $1 AND lease_until <> 0
)
SELECT run_id, owner <> $1 AS lost, cancel FROM astromesh_run
WHERE run_id = ANY($3::text[]) AND (owner <> $1 OR cancel IS NOT NULL)
"""


class PostgresLeases:
    """Satisfies `Leases`, for the process that is `owner`."""

    shared: bool = True

    def __init__(
        self, postgres: Postgres, writer: Writer, listening: Listening, owner: str, lease: float
    ) -> None:
        self.lease = lease
        self._postgres, self._writer, self._listening = postgres, writer, listening
        self._owner = owner
        self._taking: set[str] = set()

    async def claim(
        self, besides: Collection[str], limit: int
    ) -> Sequence[tuple[Run, Sequence[RunEvent]]]:
        busy = list(besides)

        async def work(connection: Connection, again: bool) -> list[Any]:
            """Behind the writes that were asked for before, of runs that are in `besides`,
            and before all that will be."""
            return await connection.fetch(_CLAIM, self._owner, self.lease, busy, limit)

        found = await self._writer.alone(work)
        found.sort(key=lambda row: (row["created_at"], row["run_id"]))
        logs = await self._logs([row["run_id"] for row in found])
        return [(run_from(row["body"]), logs.get(row["run_id"], [])) for row in found]

    async def take(self, tenant: str, run_id: str) -> tuple[Run, Sequence[RunEvent]]:
        if run_id in self._taking:
            raise not_waiting(run_id, "taken")
        self._taking.add(run_id)  # of two of this process neither may think he was the other
        try:
            body = await self._take(tenant, run_id)
        finally:
            self._taking.discard(run_id)
        return run_from(body), (await self._logs([run_id])).get(run_id, [])

    async def _take(self, tenant: str, run_id: str) -> bytes:
        async def work(connection: Connection, again: bool) -> bytes:
            values = (self._owner, self.lease, run_id, tenant, list(WAITING), again)
            taken = await connection.fetchval(_TAKE, *values)
            if taken is not None:
                return bytes(taken)
            sql = "SELECT state FROM astromesh_run WHERE run_id = $1 AND tenant = $2"
            state = await connection.fetchval(sql, run_id, tenant)
            raise no_run(run_id) if state is None else not_waiting(run_id, state)

        return await self._writer.alone(work)

    async def renew(self, run_ids: Collection[str]) -> Beat:
        if not run_ids:
            return Beat()
        found = await self._postgres.fetch(_RENEW, self._owner, self.lease, list(run_ids))
        return Beat(
            frozenset(row["run_id"] for row in found if row["lost"]),
            {
                row["run_id"]: row["cancel"]
                for row in found
                if not row["lost"] and row["cancel"] is not None
            },
        )

    async def release(self, run_ids: Collection[str]) -> None:
        sql = (
            "UPDATE astromesh_run SET lease_until = 0 "
            "WHERE run_id = ANY($1::text[]) AND owner = $2 AND lease_until <> 0 RETURNING 1"
        )
        if not run_ids:
            return
        with suppress(TimeoutError):  # then others wait until the leases run out
            async with asyncio.timeout(_AT_THE_END):
                if await self._postgres.fetch(sql, list(run_ids), self._owner):
                    self._listening.freed()

    async def ask_cancel(self, tenant: str, run_id: str, reason: str) -> None:
        sql = (
            "UPDATE astromesh_run SET cancel = $1 WHERE run_id = $2 AND tenant = $3 RETURNING owner"
        )
        found = await self._postgres.fetch(sql, reason, run_id, tenant)
        if not found:
            raise no_run(run_id)
        self._listening.cancelled(found[0]["owner"])

    async def news(self, seconds: float) -> None:
        await self._listening.news.wait(seconds)

    async def _logs(self, run_ids: Sequence[str]) -> Mapping[str, list[RunEvent]]:
        sql = (
            "SELECT run_id, seq, last, time, body FROM astromesh_run_event "
            "WHERE run_id = ANY($1::text[]) ORDER BY run_id, seq"
        )
        rows = await self._postgres.fetch(sql, run_ids) if run_ids else []
        return {
            run_id: [event for row in log for event in events_of(run_id, Row(*row[1:]))]
            for run_id, log in groupby(rows, key=lambda row: str(row["run_id"]))
        }
