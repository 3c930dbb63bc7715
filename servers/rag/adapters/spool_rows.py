"""The spool's tables, and its values in and out of them."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from servers.domain.ingestions import Ingestion, IngestionFilter, IngestionState
from servers.domain.rag import IngestOutcome

T = TypeVar("T")

MIGRATIONS = (
    """
    CREATE TABLE ingestion (
        id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        principal TEXT NOT NULL,
        pipeline TEXT NOT NULL,
        request_id TEXT NOT NULL DEFAULT '',
        digest TEXT NOT NULL DEFAULT '',
        state TEXT NOT NULL DEFAULT 'receiving',
        cancel INTEGER NOT NULL DEFAULT 0,
        why TEXT NOT NULL DEFAULT '',
        documents INTEGER NOT NULL DEFAULT 0,
        created INTEGER NOT NULL DEFAULT 0,
        replaced INTEGER NOT NULL DEFAULT 0,
        unchanged INTEGER NOT NULL DEFAULT 0,
        failed INTEGER NOT NULL DEFAULT 0,
        bytes INTEGER NOT NULL DEFAULT 0,
        pending INTEGER NOT NULL DEFAULT 0, -- what its open documents weigh
        chunks INTEGER NOT NULL DEFAULT 0,
        created_at REAL NOT NULL,
        updated_at REAL NOT NULL,
        ended_at REAL
    ) STRICT;
    CREATE UNIQUE INDEX ingestion_request ON ingestion (tenant, principal, request_id)
        WHERE request_id <> '';
    CREATE INDEX ingestion_time ON ingestion (tenant, created_at, id);
    CREATE TABLE document (
        ingestion TEXT NOT NULL REFERENCES ingestion ON DELETE CASCADE,
        number INTEGER NOT NULL,
        id TEXT NOT NULL,
        weight INTEGER NOT NULL,
        fields BLOB NOT NULL,
        content BLOB, -- NULL: it failed
        reason TEXT NOT NULL DEFAULT '',
        message TEXT NOT NULL DEFAULT '',
        PRIMARY KEY (ingestion, number)
    ) STRICT;
    CREATE INDEX document_open ON document (ingestion, number) WHERE content IS NOT NULL;
    """,
)

BEGIN = (
    "INSERT INTO ingestion (id, tenant, principal, pipeline, created_at, updated_at)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
ADD = (
    "INSERT INTO document (ingestion, number, id, weight, fields, content)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)
COUNT_IN = (
    "UPDATE ingestion SET documents = documents + 1, bytes = bytes + ?, pending = pending + ?"
    " WHERE id = ?"
)
PENDING = (
    "SELECT coalesce(sum(other.pending), 0),"
    " coalesce(sum(other.pending) FILTER (WHERE other.tenant = mine.tenant), 0)"
    " FROM ingestion mine, ingestion other WHERE mine.id = ? AND other.pending > 0"
)
ASKED_BY = (
    "SELECT other.id, other.digest FROM ingestion mine JOIN ingestion other"
    " ON other.tenant = mine.tenant AND other.principal = mine.principal"
    " WHERE mine.id = ? AND other.request_id = ?"
)
ASKED = "SELECT 1 FROM ingestion WHERE tenant = ? AND principal = ? AND request_id = ?"
ACCEPT = (
    "UPDATE ingestion SET state = 'running', request_id = ?, digest = ?, updated_at = ?"
    " WHERE id = ?"
)
RUNNING = "SELECT * FROM ingestion WHERE state = 'running' ORDER BY created_at, id"
NEXT = (
    "SELECT number, id, fields, content FROM document"
    " WHERE ingestion = ? AND content IS NOT NULL ORDER BY number LIMIT 1"
)
OPEN = (
    "SELECT weight, fields FROM document WHERE ingestion = ? AND number = ? AND content IS NOT NULL"
)
DONE = "DELETE FROM document WHERE ingestion = ? AND number = ?"
FAIL = (
    "UPDATE document SET content = NULL, fields = ?, id = ?, reason = ?, message = ?"
    " WHERE ingestion = ? AND number = ?"
)
COUNT_OUT = {
    outcome: f"UPDATE ingestion SET {outcome.value} = {outcome.value} + 1, chunks = chunks + ?,"
    " pending = pending - ?, updated_at = ? WHERE id = ?"
    for outcome in IngestOutcome
}
CANCEL = "UPDATE ingestion SET cancel = 1, updated_at = ? WHERE id = ? AND state = 'running'"
END = (
    "UPDATE ingestion SET state = ?, why = ?, pending = 0, updated_at = ?, ended_at = ?"
    " WHERE id = ?"
)
FORGET = "DELETE FROM ingestion WHERE id = ?"
FORGET_OPEN = "DELETE FROM document WHERE ingestion = ? AND content IS NOT NULL"
FORGET_RECEIVING = "DELETE FROM ingestion WHERE state = 'receiving'"
SWEEP = "DELETE FROM ingestion WHERE ended_at < ?"
FAILURES = (
    "SELECT id, reason, message, fields FROM document WHERE ingestion = ? AND content IS NULL"
    " ORDER BY number LIMIT ?"
)


def named(work: Callable[[sqlite3.Connection], T]) -> Callable[[sqlite3.Connection], T]:
    """Rows that know their columns' names, while `work` reads them."""

    def with_names(db: sqlite3.Connection) -> T:
        db.row_factory = sqlite3.Row
        try:
            return work(db)
        finally:
            db.row_factory = None

    return with_names


def ingestion(db: sqlite3.Connection, name: str) -> Ingestion | None:
    sql = "SELECT * FROM ingestion WHERE id = ? AND state <> 'receiving'"
    return next(iter(ingestions(db, sql, (name,))), None)


def ingestions(db: sqlite3.Connection, sql: str, values: Sequence[Any]) -> Sequence[Ingestion]:
    return [_ingestion(row) for row in db.execute(sql, values).fetchall()]


def _ingestion(row: sqlite3.Row) -> Ingestion:
    return Ingestion(
        id=row["id"],
        tenant=row["tenant"],
        principal=row["principal"],
        pipeline=row["pipeline"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
        state=IngestionState(row["state"]),
        documents=row["documents"],
        created=row["created"],
        replaced=row["replaced"],
        unchanged=row["unchanged"],
        failed=row["failed"],
        bytes=row["bytes"],
        chunks=row["chunks"],
        waiting=row["why"],
        cancel=bool(row["cancel"]),
        ended_at=row["ended_at"],
    )


def page(
    tenant: str, where: IngestionFilter, after: tuple[float, str] | None, limit: int
) -> tuple[str, Sequence[Any]]:
    sql = "SELECT * FROM ingestion WHERE tenant = ? AND state <> 'receiving'"
    values: list[Any] = [tenant]
    if where.done is not None:
        sql += f" AND state {'<>' if where.done else '='} 'running'"
    if where.pipeline:
        sql += " AND pipeline = ?"
        values.append(where.pipeline)
    if after:
        sql += " AND (created_at, id) < (?, ?)"
        values += after
    return f"{sql} ORDER BY created_at DESC, id DESC LIMIT ?", [*values, limit]
