"""Runs and their logs in PostgreSQL, for several processes at a time."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

from servers.agents.adapters.changes import Waiter
from servers.agents.adapters.postgres.listening import Listening
from servers.agents.adapters.postgres.principals import name_principals
from servers.agents.adapters.postgres.statements import (
    Addition,
    Creation,
    Statements,
    earlier_run,
    size_of,
)
from servers.agents.adapters.postgres.writer import Writer
from servers.agents.adapters.run_codec import Row, events_of, row_of, run_from
from servers.agents.adapters.run_rows import let_go, no_run, only_live, run_row, tells_its_end
from servers.domain.run_events import RunEvent
from servers.domain.runs import Run, RunFilter, RunPage
from servers.kernel.paging import fitting, page_limit, position, token
from servers.kernel.postgres import Postgres

_LOOK: Final = 0.5  # seconds between two looks at a log while nobody tells of its growth
_ROWS: Final = 64  # that are read at once: each may hold hundreds of events


class PostgresRuns:
    """Satisfies `RunStore`. The writer, the statements and what is listened to are those of
    this process; the tables are there."""

    def __init__(
        self, postgres: Postgres, writer: Writer, statements: Statements, listening: Listening
    ) -> None:
        self._postgres, self._writer = postgres, writer
        self._statements, self._listening = statements, listening

    async def create(
        self, run: Run, request_hash: str = "", events: Sequence[RunEvent] = ()
    ) -> tuple[Run, bool]:
        creation = Creation(
            run,
            run_row(run),
            request_hash,
            row_of(events) if events else None,
            held=not let_go(run),
            webhook_at=0.0 if tells_its_end(run) else None,
        )
        stored: Run
        stored, new = await self._writer.submit(
            self._statements.create, run.id, creation, size_of(creation)
        )
        if new and events:
            self._listening.grown(run.id, events[-1].sequence)
        return stored, new

    async def requested(self, tenant: str, request_id: str, request_hash: str) -> Run | None:
        return await self._postgres.steadily(
            lambda connection: earlier_run(connection, tenant, request_id, request_hash)
        )

    async def append(self, run_id: str, events: Sequence[RunEvent], run: Run | None = None) -> None:
        log = row_of(events) if events else None
        if run is None:
            addition = Addition(run_id, log, None)
        else:
            addition = Addition(run_id, log, run_row(run), tells_its_end(run), let_go(run))
        await self._writer.submit(self._statements.append, run_id, addition, size_of(addition))
        if events:
            self._listening.grown(run_id, events[-1].sequence)

    async def get(self, tenant: str, run_id: str) -> Run:
        sql = "SELECT body FROM astromesh_run WHERE run_id = $1 AND tenant = $2"
        found = await self._postgres.fetch(sql, run_id, tenant)
        if not found:
            raise no_run(run_id)
        return run_from(found[0]["body"])

    async def list(
        self, tenant: str, where: RunFilter, page_size: int = 0, page_token: str = ""
    ) -> RunPage:
        limit, scope = page_limit(page_size), (tenant, where)
        after = position(scope, page_token, float, str) if page_token else None
        if where.principal:
            await name_principals(self._postgres)
        sql, values = _selection(tenant, where, after, limit + 1)
        found = await self._postgres.fetch(sql, *values)
        some, more = fitting(found, limit, lambda row: len(row["body"]))
        page = tuple(run_from(row["body"]) for row in some)
        return RunPage(page, token(scope, float(page[-1].created_at), page[-1].id) if more else "")

    async def events(
        self, run_id: str, after_sequence: int = 0, limit: int = 1000
    ) -> Sequence[RunEvent]:
        # The row with the greatest seq up to the position may reach beyond it.
        sql = (
            "SELECT seq, last, time, body FROM astromesh_run_event "
            "WHERE run_id = $1 AND last > $2 AND seq >= coalesce((SELECT max(seq) "
            "FROM astromesh_run_event WHERE run_id = $1 AND seq <= $2), 0) "
            f"ORDER BY seq LIMIT {_ROWS}"
        )
        found: list[RunEvent] = []
        while len(found) < limit:
            rows = await self._postgres.fetch(sql, run_id, after_sequence)
            for row in rows:
                events = events_of(run_id, Row(*row))
                found += [event for event in events if event.sequence > after_sequence]
            if len(rows) < _ROWS:
                break
            after_sequence = rows[-1]["last"]
        return found[:limit]

    async def last_sequence(self, run_id: str) -> int:
        sql = "SELECT last FROM astromesh_run_event WHERE run_id = $1 ORDER BY seq DESC LIMIT 1"
        found = await self._postgres.fetch(sql, run_id)
        return found[0]["last"] if found else 0

    async def changed(self, run_id: str, after_sequence: int, seconds: float) -> None:
        async with self._listening.waiters.waiting(run_id, after_sequence) as waiter:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while not waiter.grown and await self.last_sequence(run_id) <= after_sequence:
                        await self._woken(waiter)

    async def _woken(self, waiter: Waiter) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if self._listening.connected else _LOOK):
                await waiter.woken.wait()
        waiter.woken.clear()

    async def line(self, tenant: str, agent: str, session: str) -> Sequence[str]:
        sql = (
            "SELECT run_id FROM astromesh_run WHERE tenant = $1 AND agent = $2 AND session = $3 "
            "AND ended_at IS NULL ORDER BY created_at, run_id"
        )
        found = await self._postgres.fetch(sql, tenant, agent, session)
        return [row["run_id"] for row in found]


def _selection(
    tenant: str, where: RunFilter, after: Sequence[Any] | None, limit: int
) -> tuple[str, list[Any]]:
    conditions, values = ["tenant = $1"], [tenant, limit]

    def also(condition: str, value: Any) -> None:
        values.append(value)
        conditions.append(condition.format(f"${len(values)}"))

    for column in ("agent", "session", "parent", "root", "principal"):
        if wanted := getattr(where, column):
            # The last condition is what lets a partial index be used.
            also(f"{column} = {{}} AND {column} <> ''", wanted)
    if where.states:
        also("state = ANY({}::text[])", [state.value for state in where.states])
    if only_live(where):
        # Of all runs few have not ended: who looks for them shall not read the others.
        conditions.append("ended_at IS NULL")
    if after:
        values.append(after[0])
        also(f"(created_at, run_id) < (${len(values)}, {{}})", after[1])
    sql = (
        f"SELECT body FROM astromesh_run WHERE {' AND '.join(conditions)} "
        "ORDER BY created_at DESC, run_id DESC LIMIT $2"
    )
    return sql, values
