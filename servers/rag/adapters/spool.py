"""The spool in SQLite: what was accepted survives the end of the process, however it comes."""

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from servers.domain.ingestions import (
    DocumentFailure,
    Ingestion,
    IngestionFilter,
    IngestionState,
)
from servers.domain.rag import Document, Ingested, IngestOutcome
from servers.kernel.errors import AlreadyExists, Exhausted
from servers.kernel.sqlite import Database
from servers.rag.adapters import spool_rows as rows

_OVERHEAD = 1024  # bytes that a document costs besides its content
_LONGEST_NAME, _LONGEST_MESSAGE = 512, 300  # characters that are kept of what failed


class SqliteSpool:
    """Satisfies `ports.Spool`. `most`: bytes that may wait, of all tenants and of one."""

    def __init__(
        self, database: Database, most: int, most_of_tenant: int, now: Callable[[], float]
    ) -> None:
        self._database = database
        self._most, self._most_of_tenant = most, most_of_tenant
        self._now = now

    async def begin(self, ingestion: Ingestion) -> None:
        values = (
            ingestion.id,
            ingestion.tenant,
            ingestion.principal,
            ingestion.pipeline,
            ingestion.created_at,
            ingestion.updated_at,
        )
        await self._database.write(lambda db: db.execute(rows.BEGIN, values))

    async def add(self, ingestion: str, number: int, document: Document) -> None:
        size = len(document.content)
        weight = size + _OVERHEAD
        values = (ingestion, number, document.id, weight, _fields(document), document.content)

        def work(db: sqlite3.Connection) -> None:
            self._refuse_too_much(db, ingestion, weight)
            db.execute(rows.ADD, values)
            db.execute(rows.COUNT_IN, (size, weight, ingestion))

        await self._database.write(work)

    def _refuse_too_much(self, db: sqlite3.Connection, ingestion: str, weight: int) -> None:
        all_of_them, of_tenant = db.execute(rows.PENDING, (ingestion,)).fetchone()
        for pending, most, whose in (
            (of_tenant, self._most_of_tenant, "of this tenant "),
            (all_of_them, self._most, ""),
        ):
            if pending + weight > most:
                raise Exhausted(
                    f"{pending} bytes {whose}wait to be taken in, and {most} may at most: send "
                    "less at once, or try again once some are taken in",
                    reason="INGESTION_QUEUE_FULL",
                    retry_after=30.0,
                    limit=str(most),
                )

    async def accept(self, ingestion: str, request_id: str, digest: str) -> Ingestion:
        def work(db: sqlite3.Connection) -> Ingestion | None:
            known = request_id and db.execute(rows.ASKED_BY, (ingestion, request_id)).fetchone()
            if known:
                db.execute(rows.FORGET, (ingestion,))
                return rows.ingestion(db, known["id"]) if known["digest"] == digest else None
            db.execute(rows.ACCEPT, (request_id, digest, self._now(), ingestion))
            return rows.ingestion(db, ingestion)

        found = await self._database.write(rows.named(work))
        if found is None:
            raise AlreadyExists(
                f"the request_id {request_id!r} was used with other documents: choose a new one",
                reason="REQUEST_ID_REUSED",
                request_id=request_id,
            )
        return found

    async def asked(self, tenant: str, principal: str, request_id: str) -> bool:
        values = (tenant, principal, request_id)
        found = await self._database.read(lambda db: db.execute(rows.ASKED, values).fetchone())
        return found is not None

    async def get(self, ingestion: str) -> Ingestion | None:
        return await self._database.read(rows.named(lambda db: rows.ingestion(db, ingestion)))

    async def failures(self, ingestion: str, most: int) -> Sequence[DocumentFailure]:
        values = (ingestion, most)
        found = await self._database.read(lambda db: db.execute(rows.FAILURES, values).fetchall())
        return [
            DocumentFailure(name, reason, message, _acl(fields))
            for name, reason, message, fields in found
        ]

    async def page(
        self, tenant: str, where: IngestionFilter, after: tuple[float, str] | None, limit: int
    ) -> Sequence[Ingestion]:
        sql, values = rows.page(tenant, where, after, limit)
        return await self._database.read(rows.named(lambda db: rows.ingestions(db, sql, values)))

    async def running(self) -> Sequence[Ingestion]:
        return await self._database.read(
            rows.named(lambda db: rows.ingestions(db, rows.RUNNING, ()))
        )

    async def forget_receiving(self) -> None:
        await self._database.write(lambda db: db.execute(rows.FORGET_RECEIVING))

    async def next(self, ingestion: str) -> tuple[int, Document] | None:
        found = await self._database.read(lambda db: db.execute(rows.NEXT, (ingestion,)).fetchone())
        if found is None:
            return None
        number, name, fields, content = found
        return number, _document(name, orjson.loads(fields), content)

    async def settle(self, ingestion: str, number: int, told: Ingested) -> None:
        failed = told.outcome is IngestOutcome.FAILED
        said = (told.error_reason, told.error_message[:_LONGEST_MESSAGE])
        why = (told.id[:_LONGEST_NAME], *said, ingestion, number)

        def work(db: sqlite3.Connection) -> None:
            weight, fields = db.execute(rows.OPEN, (ingestion, number)).fetchone()
            if failed:
                db.execute(rows.FAIL, (orjson.dumps({"acl": _acl(fields)}), *why))
            else:
                db.execute(rows.DONE, (ingestion, number))
            counted = rows.COUNT_OUT[told.outcome]
            db.execute(counted, (told.chunks, weight, self._now(), ingestion))

        await self._database.write(work)

    async def cancel(self, ingestion: str) -> None:
        await self._database.write(lambda db: db.execute(rows.CANCEL, (self._now(), ingestion)))

    async def end(self, ingestion: str, state: IngestionState, why: str = "") -> None:
        def work(db: sqlite3.Connection) -> None:
            db.execute(rows.FORGET_OPEN, (ingestion,))
            now = self._now()
            db.execute(rows.END, (state.value, why, now, now, ingestion))

        await self._database.write(work)

    async def forget(self, ingestion: str) -> None:
        await self._database.write(lambda db: db.execute(rows.FORGET, (ingestion,)))

    async def sweep(self, before: float) -> int:
        def work(db: sqlite3.Connection) -> int:
            return db.execute(rows.SWEEP, (before,)).rowcount

        return await self._database.write(work)


def _fields(document: Document) -> bytes:
    return orjson.dumps(
        {
            "media_type": document.media_type,
            "title": document.title,
            "uri": document.uri,
            "metadata": dict(document.metadata),
            "acl": list(document.acl),
        }
    )


def _acl(fields: bytes) -> tuple[str, ...]:
    """An older version kept none of what failed."""
    return tuple(orjson.loads(fields)["acl"]) if fields else ()


def _document(name: str, fields: dict[str, Any], content: bytes) -> Document:
    return Document(
        name,
        content,
        fields["media_type"],
        fields["title"],
        fields["uri"],
        fields["metadata"],
        tuple(fields["acl"]),
    )
