"""How many writes of runs become one statement each: what is new, and what is added."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from servers.agents.adapters.postgres.writer import Outcome
from servers.agents.adapters.run_codec import Row, run_from
from servers.agents.adapters.run_rows import RunRow, fenced, no_run, request_id_reused
from servers.domain.runs import Run
from servers.kernel.errors import AlreadyExists
from servers.kernel.postgres import Connection

NOW: Final = "extract(epoch FROM statement_timestamp())::float8"


@dataclass(frozen=True, slots=True)
class Creation:
    run: Run
    row: RunRow
    request_hash: str
    log: Row | None
    held: bool  # its process works on it
    webhook_at: float | None


@dataclass(frozen=True, slots=True)
class Addition:
    run_id: str
    log: Row | None
    row: RunRow | None  # None: the run stays as it is
    tells: bool = False
    let_go: bool = False


def size_of(write: Creation | Addition) -> int:
    """Bytes, about."""
    log, row = write.log, write.row
    return (len(log.body) if log else 0) + (len(row.body) if row else 0)


_KINDS: Final = {"created_at": "float8", "wake_at": "float8", "ended_at": "float8", "body": "bytea"}
_COLUMNS: Final = {name: _KINDS.get(name, "text") for name in RunRow._fields}
_LOG: Final = {"seq": "int8", "last": "int8", "time": "float8", "events": "bytea"}


def _unnest(columns: dict[str, str], name: str, first: int) -> str:
    """A table of parameters, of which each is a column."""
    arrays = ", ".join(
        f"${number}::{kind}[]" for number, kind in enumerate(columns.values(), first)
    )
    return f"unnest({arrays}) AS {name}({', '.join(columns)})"


_NEW: Final = {
    "run_id": "text",
    **_COLUMNS,
    "request_id": "text",
    "request_hash": "text",
    "webhook_at": "float8",
    "held": "bool",
    **_LOG,
}
_STORED: Final = ["run_id", *_COLUMNS, "request_id", "request_hash", "webhook_at"]
_CREATE: Final = f"""
WITH item AS MATERIALIZED (SELECT * FROM {_unnest(_NEW, "item", 3)}),
made AS (
    INSERT INTO astromesh_run({", ".join(_STORED)}, owner, lease_until)
    SELECT {", ".join(_STORED)}, $1, CASE WHEN held THEN {NOW} + $2 ELSE 0 END
    FROM item ORDER BY run_id ON CONFLICT DO NOTHING RETURNING run_id
),
logged AS (
    INSERT INTO astromesh_run_event(run_id, seq, last, time, body)
    SELECT run_id, seq, last, time, events FROM item JOIN made USING (run_id)
    WHERE seq IS NOT NULL
)
SELECT run_id FROM made
"""
_ADDED: Final = {"run_id": "text", **_LOG}
_CHANGED: Final = {"run_id": "text", **_COLUMNS, "tells": "bool", "let_go": "bool"}
# The lock on the run makes one who takes it over wait until what its owner adds is there to be
# read, or the owner find out. The right sides of SET see the row as it was: what has ended
# before is not told again.
_APPEND: Final = f"""
WITH item AS MATERIALIZED (SELECT * FROM {_unnest(_ADDED, "item", 2)}),
owned AS MATERIALIZED (
    SELECT run.run_id FROM item JOIN astromesh_run AS run USING (run_id)
    WHERE run.owner = $1 AND (item.seq IS NULL OR item.seq > coalesce(
        (SELECT event.last FROM astromesh_run_event AS event
         WHERE event.run_id = item.run_id ORDER BY event.seq DESC LIMIT 1), 0))
    ORDER BY run.run_id FOR NO KEY UPDATE OF run
),
logged AS (
    INSERT INTO astromesh_run_event(run_id, seq, last, time, body)
    SELECT run_id, seq, last, time, events FROM item JOIN owned USING (run_id)
    WHERE seq IS NOT NULL
),
changed AS (
    UPDATE astromesh_run AS run SET {", ".join(f"{name} = new.{name}" for name in _COLUMNS)},
        webhook_at = CASE WHEN run.ended_at IS NULL AND new.tells THEN 0 ELSE run.webhook_at END,
        lease_until = CASE WHEN new.let_go THEN 0 ELSE run.lease_until END
    FROM {_unnest(_CHANGED, "new", 2 + len(_ADDED))} JOIN owned USING (run_id)
    WHERE run.run_id = new.run_id
)
SELECT run_id FROM owned
"""
_EARLIER: Final = (
    "SELECT run_id, request_hash, body FROM astromesh_run "
    "WHERE tenant = $1 AND request_id = $2 AND request_id <> ''"
)
_OWN: Final = "SELECT run_id FROM astromesh_run WHERE run_id = ANY($1) AND owner = $2"
_OWN_EVENTS: Final = (
    "SELECT event.run_id, event.seq, event.last, event.time, event.body "
    "FROM unnest($2::text[], $3::int8[]) AS item(run_id, seq) "
    "JOIN astromesh_run_event AS event USING (run_id, seq) "
    "JOIN astromesh_run AS run USING (run_id) WHERE run.owner = $1"
)


async def earlier_run(
    connection: Connection, tenant: str, request_id: str, request_hash: str
) -> Run | None:
    """The one that was made with a request id; raises where it was for another request."""
    if not request_id:
        return None
    found = await connection.fetchrow(_EARLIER, tenant, request_id)
    if found is None:
        return None
    if found["request_hash"] != request_hash:
        raise request_id_reused(request_id)
    return run_from(found["body"])


class Statements:
    """Of one process: it may add to the runs of `owner`, which it has for `lease` seconds."""

    def __init__(self, owner: str, lease: float) -> None:
        self._owner, self._lease = owner, lease

    async def create(
        self, connection: Connection, creations: Sequence[Creation], again: bool
    ) -> Sequence[Outcome]:
        rows = [
            (
                each.run.id,
                *each.row,
                each.run.request_id,
                each.request_hash,
                each.webhook_at,
                each.held,
                *_log(each.log),
            )
            for each in creations
        ]
        values = _columns(rows, len(_NEW))
        made = _ids(await connection.fetch(_CREATE, self._owner, self._lease, *values))
        left = [each.run.id for each in creations if each.run.id not in made]
        if again and left:
            made |= _ids(await connection.fetch(_OWN, left, self._owner))
        return [
            (each.run, True) if each.run.id in made else await _refused(connection, each)
            for each in creations
        ]

    async def append(
        self, connection: Connection, additions: Sequence[Addition], again: bool
    ) -> Sequence[Outcome]:
        logs = _columns([(each.run_id, *_log(each.log)) for each in additions], len(_ADDED))
        runs = [
            (each.run_id, *each.row, each.tells, each.let_go)
            for each in additions
            if each.row is not None
        ]
        done = _ids(
            await connection.fetch(_APPEND, self._owner, *logs, *_columns(runs, len(_CHANGED)))
        )
        left = [each for each in additions if each.run_id not in done]
        if again and left:
            done |= await self._there_already(connection, left)
        return [
            None if each.run_id in done else await _not_added(connection, each.run_id)
            for each in additions
        ]

    async def _there_already(
        self, connection: Connection, additions: Sequence[Addition]
    ) -> set[str]:
        """Those of a try before, of which nobody has heard what came of it."""
        logs = {(each.run_id, each.log.first): each.log for each in additions if each.log}
        keys = _columns(list(logs), 2)
        return {
            found["run_id"]
            for found in await connection.fetch(_OWN_EVENTS, self._owner, *keys)
            if Row(*found[1:]) == logs[found["run_id"], found["seq"]]
        }


async def _refused(connection: Connection, creation: Creation) -> Outcome:
    run = creation.run
    try:
        found = await earlier_run(connection, run.tenant, run.request_id, creation.request_hash)
    except AlreadyExists as error:
        return error
    return fenced(run.id) if found is None else (found, False)


async def _not_added(connection: Connection, run_id: str) -> Exception:
    sql = "SELECT 1 FROM astromesh_run WHERE run_id = $1"
    return fenced(run_id) if await connection.fetchval(sql, run_id) else no_run(run_id)


def _log(row: Row | None) -> tuple[Any, ...]:
    return (None,) * len(_LOG) if row is None else (row.first, row.last, row.time, row.body)


def _columns(rows: Sequence[Sequence[Any]], width: int) -> list[list[Any]]:
    return [[row[number] for row in rows] for number in range(width)]


def _ids(rows: Sequence[Any]) -> set[str]:
    return {row["run_id"] for row in rows}
