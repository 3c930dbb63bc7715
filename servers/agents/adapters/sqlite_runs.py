"""Runs and their logs in a SQLite file, which belongs to one process."""

import sqlite3
from collections.abc import Sequence
from itertools import chain, groupby
from typing import Any

from servers.agents.adapters.run_codec import Row, events_of, row_of, run_body, run_from
from servers.domain.runs import Run, RunEvent, RunFilter, RunPage
from servers.kernel.errors import AlreadyExists, Conflict, NotFound
from servers.kernel.paging import page_limit, position, token
from servers.kernel.sqlite import Database

# No leases here: the lock on the file gives all of its runs to one process at a time.
MIGRATIONS = (
    """
    CREATE TABLE run(
        run_id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        agent TEXT NOT NULL,
        session TEXT NOT NULL,
        state TEXT NOT NULL,
        created_at REAL NOT NULL,  -- seconds since the epoch
        request_id TEXT NOT NULL,
        request_hash TEXT NOT NULL,
        body BLOB NOT NULL         -- the whole run as JSON
    );
    CREATE UNIQUE INDEX run_by_request ON run(tenant, request_id) WHERE request_id != '';
    CREATE INDEX run_by_time ON run(tenant, created_at, run_id);
    CREATE INDEX run_by_agent ON run(tenant, agent, created_at, run_id);
    CREATE INDEX run_by_session ON run(tenant, session, created_at, run_id);
    CREATE INDEX run_unfinished ON run(created_at) WHERE state IN ('queued', 'running');
    CREATE TABLE run_event(
        run_id TEXT NOT NULL REFERENCES run(run_id) ON DELETE CASCADE,
        seq INTEGER NOT NULL,   -- of the first event in the row
        last INTEGER NOT NULL,  -- of the last one
        time REAL NOT NULL,     -- of the first, in seconds since the epoch
        body BLOB NOT NULL,     -- the events as JSON
        PRIMARY KEY(run_id, seq)
    ) WITHOUT ROWID;
    """,
)


class SqliteRuns:
    """Needs a database that was opened with MIGRATIONS."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(
        self, run: Run, request_hash: str = "", events: Sequence[RunEvent] = ()
    ) -> tuple[Run, bool]:
        row = (*_columns(run), run.request_id, request_hash, run.id)
        log = _log(run.id, events)

        def work(connection: sqlite3.Connection) -> tuple[Run, bool]:
            earlier = _requested(connection, run.tenant, run.request_id, request_hash)
            if earlier is not None:
                return earlier, False
            _insert_run(connection, run.id, row)
            if log:
                connection.execute(_APPEND, log)
            return run, True

        return await self._database.write(work)

    async def requested(self, tenant: str, request_id: str, request_hash: str) -> Run | None:
        return await self._database.read(
            lambda connection: _requested(connection, tenant, request_id, request_hash)
        )

    async def append(self, run_id: str, events: Sequence[RunEvent], run: Run | None = None) -> None:
        log = _log(run_id, events)
        row = (*_columns(run), run_id) if run else ()

        def work(connection: sqlite3.Connection) -> None:
            try:
                if log and connection.execute(_APPEND, log).rowcount == 0:
                    raise _fenced(run_id)
            except sqlite3.IntegrityError as error:
                raise _no_run(run_id) from error
            if row and connection.execute(_UPDATE, row).rowcount == 0:
                raise _no_run(run_id)

        await self._database.write(work)

    async def get(self, tenant: str, run_id: str) -> Run:
        sql = "SELECT body FROM run WHERE run_id = ? AND tenant = ?"
        found = await self._database.read(lambda c: c.execute(sql, (run_id, tenant)).fetchone())
        if found is None:
            raise _no_run(run_id)
        return run_from(found[0])

    async def list(
        self, tenant: str, where: RunFilter, page_size: int = 0, page_token: str = ""
    ) -> RunPage:
        limit, scope = page_limit(page_size), (tenant, where)
        after = position(scope, page_token, float, str) if page_token else None
        sql, values = _selection(tenant, where, after, limit + 1)
        found = await self._database.read(lambda c: c.execute(sql, values).fetchall())
        page = tuple(run_from(body) for (body,) in found[:limit])
        more = len(found) > limit
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

    async def unfinished(self) -> Sequence[tuple[Run, Sequence[RunEvent]]]:
        runs = (
            "SELECT run_id, body FROM run WHERE state IN ('queued', 'running') "
            "ORDER BY created_at, run_id"
        )
        logs = (
            "SELECT run_id, seq, last, time, body FROM run_event WHERE run_id IN "
            "(SELECT run_id FROM run WHERE state IN ('queued', 'running')) ORDER BY run_id, seq"
        )
        found, rows = await self._database.read(
            lambda c: (c.execute(runs).fetchall(), c.execute(logs).fetchall())
        )
        by_run = {
            run_id: [event for row in log for event in events_of(run_id, Row(*row[1:]))]
            for run_id, log in groupby(rows, key=lambda row: str(row[0]))
        }
        return [(run_from(body), by_run.get(run_id, [])) for run_id, body in found]


# One statement checks and adds: every further one gives the event loop's thread, when it is
# busy, another chance to keep this one waiting for the interpreter.
_APPEND = (
    "INSERT INTO run_event SELECT ?1, ?2, ?3, ?4, ?5 WHERE ?2 > ifnull("
    "(SELECT last FROM run_event WHERE run_id = ?1 ORDER BY seq DESC LIMIT 1), 0)"
)
_UPDATE = (
    "UPDATE run SET tenant = ?, agent = ?, session = ?, state = ?, created_at = ?, body = ? "
    "WHERE run_id = ?"
)


def _columns(run: Run) -> tuple[Any, ...]:
    return run.tenant, run.agent, run.session, run.state.value, run.created_at, run_body(run)


def _log(run_id: str, events: Sequence[RunEvent]) -> tuple[Any, ...]:
    """The row of events that are written together; empty for none."""
    if not events:
        return ()
    row = row_of(events)
    return run_id, row.first, row.last, row.time, row.body


def _insert_run(connection: sqlite3.Connection, run_id: str, row: tuple[Any, ...]) -> None:
    try:
        connection.execute(
            "INSERT INTO run(tenant, agent, session, state, created_at, body, request_id, "
            "request_hash, run_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            row,
        )
    except sqlite3.IntegrityError as error:
        raise _fenced(run_id) from error


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
        raise AlreadyExists(
            f"the request id {request_id!r} was used for another request: choose a new one",
            reason="REQUEST_ID_REUSED",
            request_id=request_id,
        )
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
    if where.agent:
        conditions.append(("agent = ?", [where.agent]))
    if where.session:
        conditions.append(("session = ?", [where.session]))
    if states:
        conditions.append((f"state IN ({', '.join('?' * len(states))})", states))
    if after:
        conditions.append(("(created_at, run_id) < (?, ?)", list(after)))
    sql = (
        f"SELECT body FROM run WHERE {' AND '.join(condition for condition, _ in conditions)} "
        "ORDER BY created_at DESC, run_id DESC LIMIT ?"
    )
    return sql, [*chain.from_iterable(values for _, values in conditions), limit]


def _fenced(run_id: str) -> Conflict:
    return Conflict(
        f"the log of run {run_id!r} has gone on without this owner: stop the run here",
        reason="FENCED",
        run_id=run_id,
    )


def _no_run(run_id: str) -> NotFound:
    return NotFound(f"no run has the id {run_id!r}", run_id=run_id)
