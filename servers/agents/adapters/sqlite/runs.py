"""Runs and their logs in a SQLite file, which belongs to one process."""

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any

from servers.agents.adapters.changes import Waiters
from servers.agents.adapters.run_codec import Row, events_of, row_of, run_from
from servers.agents.adapters.run_rows import (
    RunRow,
    fenced,
    let_go,
    no_run,
    only_live,
    request_id_reused,
    run_row,
    tells_its_end,
)
from servers.agents.adapters.sqlite.schema import MIGRATIONS as MIGRATIONS
from servers.domain.run_events import RunEvent
from servers.domain.runs import Run, RunFilter, RunPage
from servers.kernel.paging import fitting, page_limit, position, token
from servers.kernel.sqlite import Database


class SqliteRuns:
    """Needs a database that was opened with MIGRATIONS."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiters = Waiters()

    async def create(
        self, run: Run, request_hash: str = "", events: Sequence[RunEvent] = ()
    ) -> tuple[Run, bool]:
        webhook_at = 0.0 if tells_its_end(run) else None
        row = (*run_row(run), webhook_at, run.request_id, request_hash, run.id)
        log = _log(run.id, events)

        def work(connection: sqlite3.Connection) -> tuple[Run, bool]:
            earlier = _requested(connection, run.tenant, run.request_id, request_hash)
            if earlier is not None:
                return earlier, False
            _insert_run(connection, run.id, row)
            if log:
                connection.execute(_APPEND, log)
            return run, True

        stored, new = await self._database.write(work)
        if new and events:
            self._waiters.grown(run.id, events[-1].sequence)
        return stored, new

    async def requested(self, tenant: str, request_id: str, request_hash: str) -> Run | None:
        return await self._database.read(
            lambda connection: _requested(connection, tenant, request_id, request_hash)
        )

    async def append(self, run_id: str, events: Sequence[RunEvent], run: Run | None = None) -> None:
        log = _log(run_id, events)
        row = (*run_row(run), tells_its_end(run), let_go(run), run_id) if run else ()

        def work(connection: sqlite3.Connection) -> None:
            try:
                if log and connection.execute(_APPEND, log).rowcount == 0:
                    raise fenced(run_id)
            except sqlite3.IntegrityError as error:
                raise no_run(run_id) from error
            if row and connection.execute(_UPDATE, row).rowcount == 0:
                raise no_run(run_id)

        await self._database.write(work)
        if events:
            self._waiters.grown(run_id, events[-1].sequence)

    async def get(self, tenant: str, run_id: str) -> Run:
        sql = "SELECT body FROM run WHERE run_id = ? AND tenant = ?"
        found = await self._database.read(lambda c: c.execute(sql, (run_id, tenant)).fetchone())
        if found is None:
            raise no_run(run_id)
        return run_from(found[0])

    async def list(
        self, tenant: str, where: RunFilter, page_size: int = 0, page_token: str = ""
    ) -> RunPage:
        limit, scope = page_limit(page_size), (tenant, where)
        after = position(scope, page_token, float, str) if page_token else None
        sql, values = _selection(tenant, where, after, limit + 1)
        found, more = await self._database.read(
            lambda c: fitting(c.execute(sql, values), limit, lambda row: len(row[0]))
        )
        page = tuple(run_from(body) for (body,) in found)
        return RunPage(page, token(scope, float(page[-1].created_at), page[-1].id) if more else "")

    async def events(
        self, run_id: str, after_sequence: int = 0, limit: int = 1000
    ) -> Sequence[RunEvent]:
        # The row with the greatest seq up to the position may reach beyond it.
        sql = (
            "SELECT seq, last, time, body FROM run_event "
            "WHERE run_id = ?1 AND last > ?2 AND seq >= ifnull("
            "(SELECT max(seq) FROM run_event WHERE run_id = ?1 AND seq <= ?2), 0) "
            "ORDER BY seq"
        )

        def work(connection: sqlite3.Connection) -> list[RunEvent]:
            """Row by row, since a row holds one event or hundreds."""
            found: list[RunEvent] = []
            for row in connection.execute(sql, (run_id, after_sequence)):
                events = events_of(run_id, Row(*row))
                found += [event for event in events if event.sequence > after_sequence]
                if len(found) >= limit:
                    break
            return found[:limit]

        return await self._database.read(work)

    async def last_sequence(self, run_id: str) -> int:
        return await self._database.read(lambda connection: _last(connection, run_id))

    async def changed(self, run_id: str, after_sequence: int, seconds: float) -> None:
        async with self._waiters.waiting(run_id, after_sequence) as waiter:
            if await self.last_sequence(run_id) <= after_sequence:
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await waiter.woken.wait()

    async def line(self, tenant: str, agent: str, session: str) -> Sequence[str]:
        sql = (
            "SELECT run_id FROM run WHERE tenant = ? AND agent = ? AND session = ? "
            "AND ended_at IS NULL ORDER BY created_at, run_id"
        )
        values = (tenant, agent, session)
        found = await self._database.read(lambda c: c.execute(sql, values).fetchall())
        return [run_id for (run_id,) in found]


# One statement checks and adds: every further one gives the event loop's thread, when it is
# busy, another chance to keep this one waiting for the interpreter.
_APPEND = (
    "INSERT INTO run_event SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?2 > ifnull("
    "(SELECT last FROM run_event WHERE run_id = ?1 ORDER BY seq DESC LIMIT 1), 0)"
)
_COLUMNS = RunRow._fields
_INSERT = (
    f"INSERT INTO run({', '.join(_COLUMNS)}, webhook_at, request_id, request_hash, run_id) "
    f"VALUES ({', '.join('?' * len(_COLUMNS))}, ?, ?, ?, ?)"
)
# The right sides see the row as it was: what has ended before is not told again.
_UPDATE = (
    f"UPDATE run SET {', '.join(f'{name} = ?' for name in _COLUMNS)}, "
    "webhook_at = CASE WHEN ended_at IS NULL AND ? THEN 0 ELSE webhook_at END, "
    "held_by = CASE WHEN ? THEN '' ELSE held_by END WHERE run_id = ?"
)


def _log(run_id: str, events: Sequence[RunEvent]) -> tuple[Any, ...]:
    """The row of events that are written together; empty for none."""
    if not events:
        return ()
    row = row_of(events)
    return run_id, row.first, row.last, row.time, row.body


def _insert_run(connection: sqlite3.Connection, run_id: str, row: tuple[Any, ...]) -> None:
    try:
        connection.execute(_INSERT, row)
    except sqlite3.IntegrityError as error:
        raise fenced(run_id) from error


def _requested(
    connection: sqlite3.Connection, tenant: str, request_id: str, request_hash: str
) -> Run | None:
    if not request_id:
        return None
    # The last condition is what lets SQLite use the partial index.
    found = connection.execute(
        "SELECT request_hash, body FROM run "
        "WHERE tenant = ? AND request_id = ? AND request_id != ''",
        (tenant, request_id),
    ).fetchone()
    if found is None:
        return None
    if found[0] != request_hash:
        raise request_id_reused(request_id)
    return run_from(found[1])


def _last(connection: sqlite3.Connection, run_id: str) -> int:
    found = connection.execute(
        "SELECT last FROM run_event WHERE run_id = ? ORDER BY seq DESC LIMIT 1", (run_id,)
    ).fetchone()
    return found[0] if found else 0


def _selection(
    tenant: str, where: RunFilter, after: Sequence[Any] | None, limit: int
) -> tuple[str, list[Any]]:
    states = [state.value for state in where.states]
    conditions: list[tuple[str, list[Any]]] = [("tenant = ?", [tenant])]
    for column in ("agent", "session", "parent", "root", "principal"):
        if wanted := getattr(where, column):
            # The last condition is what lets SQLite use a partial index.
            conditions.append((f"{column} = ? AND {column} != ''", [wanted]))
    if states:
        conditions.append((f"state IN ({', '.join('?' * len(states))})", states))
    if after:
        conditions.append(("(created_at, run_id) < (?, ?)", list(after)))
    table = "run"
    if only_live(where):
        # Of all runs few have not ended: who looks for them shall not read the others.
        table = "run INDEXED BY run_in_line"
        conditions.append(("ended_at IS NULL", []))
    sql = (
        f"SELECT body FROM {table} WHERE {' AND '.join(condition for condition, _ in conditions)} "
        "ORDER BY created_at DESC, run_id DESC LIMIT ?"
    )
    return sql, [*chain.from_iterable(values for _, values in conditions), limit]
