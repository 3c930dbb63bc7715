"""Vectors in PostgreSQL, by its extension `vector`. Needs the extra `pgvector`.

A collection is two tables of its own, as an index (HNSW, cosine) is of one length of vectors.
Words are kept as numbers: which ones a text has (an index finds those that have any), and what
each weighs in it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import asyncpg

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.errors import NotReady
from servers.kernel.postgres import ANSWER, POINTED, Connection, Postgres, open_postgres
from servers.kernel.vectors import pgvector_rows as rows
from servers.kernel.vectors import words
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.pgvector_search import EXACT, Nearest, can_be_indexed
from servers.kernel.vectors.ports import (
    NO_FILTER,
    Found,
    Point,
    Record,
    Scope,
    Space,
    check_space,
    unchanged,
)

_PATIENCE = 10.0  # seconds that work waits for a PostgreSQL that is away
_BATCH = 200  # points of one statement
# A plan for any values at all would not know how much is in scope, nor how much is wanted.
_SETTINGS = POINTED | {"plan_cache_mode": "force_custom_plan"}


@asynccontextmanager
async def open_pgvector(
    collection: Collection, *, answer: float = ANSWER, exact: int = EXACT
) -> AsyncIterator["PgvectorStore"]:
    """`answer`: seconds for one statement; `exact`: points in scope that are compared one by one.

    Raises Unavailable (STORE_UNAVAILABLE), NotReady (STATE_NOT_WRITABLE) without the extension.
    """
    said_in = f"the store of collection {collection.name!r}"
    opening = open_postgres(
        collection.address,
        said_in,
        _PATIENCE,
        answer=answer,
        ready=rows.take_vectors,
        settings=_SETTINGS,
    )
    async with opening as postgres:
        store = PgvectorStore(postgres, collection.name, exact)
        await store.set_up()
        yield store


def open_at(collection: Collection) -> AbstractAsyncContextManager["PgvectorStore"]:
    return open_pgvector(collection)


class PgvectorStore:
    """Made by `open_pgvector`. Any number of processes may share a collection."""

    def __init__(self, postgres: Postgres, name: str, exact: int) -> None:
        self._postgres, self._name, self._exact = postgres, name, exact
        # Names of collections have neither quotes nor more than 48 characters.
        self._records, self._points = f'"vectors_{name}_r"', f'"vectors_{name}_p"'
        self._space: Space | None = None
        self._type = "public"  # the schema of the extension

    async def set_up(self) -> None:
        try:
            await self._postgres.steadily(self._set_up)
        except (asyncpg.InsufficientPrivilegeError, asyncpg.FeatureNotSupportedError) as error:
            raise self._unfit(error) from error
        except asyncpg.UndefinedFileError as error:
            raise self._unfit(error) from error

    async def _set_up(self, connection: Connection) -> None:
        async with connection.transaction():
            await rows.one_at_a_time(connection)
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
            await connection.execute(rows.SPACES)
            self._type = await rows.schema_of_vectors(connection)
            # Before the extension was there, this connection could not be made to.
            await rows.take_vectors(connection)
            await self._add_words(connection)
            await self._add_expiry(connection)

    async def _add_words(self, connection: Connection) -> None:
        """To a table that an older version made."""
        points = await connection.fetchval("SELECT to_regclass($1)::oid", self._points)
        have = "SELECT 1 FROM pg_attribute WHERE attrelid = $1 AND attname = 'weights'"
        if points is None or await connection.fetchval(have, points):
            return
        await connection.execute(rows.WORDS.format(p=self._points, t=self._type))
        some = (
            f"SELECT number, text FROM {self._points} WHERE number > $1 ORDER BY number LIMIT 500"
        )
        last = -1
        while found := await connection.fetch(some, last):
            values = [(number, *rows.terms_and_weights(text)) for number, text in found]
            await connection.executemany(
                f"UPDATE {self._points} SET terms = $2, weights = $3 WHERE number = $1", values
            )
            last = found[-1][0]

    async def _add_expiry(self, connection: Connection) -> None:
        records = await connection.fetchval("SELECT to_regclass($1)::oid", self._records)
        sql = "SELECT 1 FROM pg_attribute WHERE attrelid = $1 AND attname = 'expires_at'"
        if records is not None and not await connection.fetchval(sql, records):
            await connection.execute(rows.EXPIRY.format(r=self._records))

    def _unfit(self, error: Exception) -> NotReady:
        return NotReady(
            f"{self._postgres.where} can't keep vectors: {error}; install pgvector, and let "
            "somebody who may do so CREATE EXTENSION vector",
            reason="STATE_NOT_WRITABLE",
        )

    async def space(self) -> Space | None:
        if self._space is None:
            sql = "SELECT model, dimension FROM astromesh_vectors WHERE collection = $1"
            found = await self._postgres.fetch(sql, self._name)
            self._space = Space(*found[0]) if found else None
        return self._space

    async def prepare(self, space: Space) -> None:
        if await self.space() is None:
            await self._postgres.steadily(lambda c: self._make(c, space))
        check_space(await self.space(), space, f"collection {self._name!r}")

    async def _make(self, connection: Connection, space: Space) -> None:
        async with connection.transaction():
            await rows.one_at_a_time(connection)
            taken = await connection.fetchval(
                "INSERT INTO astromesh_vectors VALUES ($1, $2, $3) "
                "ON CONFLICT DO NOTHING RETURNING true",
                *(self._name, space.model, space.dimension),
            )
            if not taken:
                return
            await connection.execute(
                rows.TABLES.format(r=self._records, p=self._points, t=self._type, n=space.dimension)
            )
            if can_be_indexed(space.dimension):
                cosine = f"{self._type}.vector_cosine_ops"
                await connection.execute(
                    f"CREATE INDEX ON {self._points} USING hnsw (vector {cosine})"
                )

    async def replace(
        self, tenant: str, record: Record, points: Sequence[Point], over: Record | None = None
    ) -> bool:
        return await self._postgres.steadily(
            lambda c: self._replace(c, tenant, record, points, over)
        )

    async def _is_there(self, connection: Connection, tenant: str, record: Record) -> bool:
        """As it was read; nobody deletes or changes it before the transaction ends."""
        where = f"{self._records} r WHERE tenant = $1 AND id = $2"
        sql = f"SELECT {rows.RECORD} FROM {where} FOR UPDATE"
        found = await connection.fetchrow(sql, tenant, record.id)
        return unchanged(rows.record(found) if found else None, record)

    async def _replace(
        self,
        connection: Connection,
        tenant: str,
        record: Record,
        points: Sequence[Point],
        over: Record | None,
    ) -> bool:
        async with connection.transaction():
            if over and not await self._is_there(connection, tenant, over):
                return False
            number = await connection.fetchval(
                f"INSERT INTO {self._records} (tenant, id, title, uri, content_hash, points, "
                "metadata, acl, updated_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, "
                "$7::text::jsonb, $8, $9, $10) ON CONFLICT (tenant, id) DO UPDATE SET (title, uri, "
                "content_hash, points, metadata, acl, updated_at, expires_at) = (excluded.title, "
                "excluded.uri, excluded.content_hash, excluded.points, excluded.metadata, "
                "excluded.acl, excluded.updated_at, excluded.expires_at) RETURNING number",
                *(tenant, record.id, record.title, record.uri, record.content_hash, len(points)),
                *(rows.json(record.metadata), list(record.acl)),
                *(record.updated_at, record.expires_at),
            )
            await connection.execute(f"DELETE FROM {self._points} WHERE record = $1", number)
            values = [
                (
                    *(number, tenant, each.index, each.text, each.start, each.end),
                    *(rows.vector(each.vector), *rows.terms_and_weights(each.text)),
                )
                for each in points
            ]
            sql = (
                f"INSERT INTO {self._points} (record, tenant, position, text, start, stop, "
                "vector, terms, weights) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
            )
            # Each part has the time of an answer, however many points there are.
            for at in range(0, len(values), _BATCH):
                await connection.executemany(sql, values[at : at + _BATCH])
            return True

    async def delete(self, tenant: str, *records: str) -> int:
        sql = f"DELETE FROM {self._records} WHERE tenant = $1 AND id = ANY ($2) RETURNING points"
        found = await self._fetch(sql, tenant, list(records)) if records else []
        return sum(int(points) for (points,) in found)

    async def sweep(self, now: float) -> int:
        sql = f"DELETE FROM {self._records} WHERE expires_at <= $1 RETURNING 1"
        return len(await self._fetch(sql, now))

    async def record(self, scope: Scope, record: str) -> Record | None:
        condition, values = rows.condition(scope, {})
        sql = f"SELECT {rows.RECORD} FROM {self._records} r WHERE {condition} AND r.id = "
        found = await self._fetch(f"{sql}${len(values) + 1}", *values, record)
        return rows.record(found[0]) if found else None

    async def records(
        self, scope: Scope, after: str, limit: int, where: Where = NO_FILTER
    ) -> Sequence[Record]:
        condition, values = rows.condition(scope, where)
        n = len(values)
        sql = (
            f"SELECT {rows.RECORD} FROM {self._records} r WHERE {condition} "
            f'AND r.id > ${n + 1} ORDER BY r.id COLLATE "C" LIMIT ${n + 2}'
        )
        return [rows.record(row) for row in await self._fetch(sql, *values, after, limit)]

    async def search(
        self,
        scope: Scope,
        vector: Vector,
        limit: int,
        where: Where,
        with_vectors: bool = False,
    ) -> Sequence[Found]:
        if await self.space() is None:
            return []
        condition, values = rows.condition(scope, where)
        column = rows.vector_column(self._type, with_vectors)
        nearest = Nearest(
            *(self._records, self._points, self._type, column, condition, values, vector, limit)
        )
        indexed = can_be_indexed(len(vector))
        look = lambda connection: nearest.found(connection, self._exact, indexed)  # noqa: E731
        return [rows.found(*row) for row in await self._postgres.steadily(look)]

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        asked = [words.number(word) for word in words.asked(text)]
        condition, values = rows.condition(scope, where)
        n = len(values)
        having = f"{self._from()} WHERE p.tenant = $1 AND {condition} AND p.terms"
        counts = (
            f"SELECT term, (SELECT count(*) {having} @> ARRAY[term]), (SELECT coalesce("
            f"sum(r.points), 0) FROM {self._records} r WHERE {condition}) "
            f"FROM unnest(${n + 1}::int[]) term"
        )
        found = await self._fetch(counts, *values, asked)
        rare = {term: words.rarity(having, texts) for term, having, texts in found if having}
        if not rare:
            return []
        product = f"p.weights OPERATOR({self._type}.<#>) ${n + 2}::{self._type}.sparsevec"
        sql = (
            f"SELECT -({product}) AS score, {rows.vector_column(self._type, with_vectors)}, "
            f"{rows.POINT} {having} && ${n + 1}::int[] "
            f"ORDER BY round(-({product})::numeric, 4) DESC, r.id, p.position LIMIT ${n + 3}"
        )
        best = await self._fetch(sql, *values, list(rare), rows.sparse(rare), limit)
        return words.in_order(((score, rows.found(0.0, *rest)) for score, *rest in best), limit)

    def _from(self) -> str:
        return f"FROM {self._points} p JOIN {self._records} r ON r.number = p.record"

    async def knows(self, tenant: str, key: str) -> bool:
        sql = f"SELECT 1 FROM {self._records} WHERE tenant = $1 AND metadata ? $2 LIMIT 1"
        return bool(await self._fetch(sql, tenant, key))

    async def count(self, tenant: str) -> int:
        sql = f"SELECT coalesce(sum(points), 0) FROM {self._records} WHERE tenant = $1"
        found = await self._fetch(sql, tenant)
        return int(found[0][0]) if found else 0

    async def _fetch(self, sql: str, *values: Any) -> list[asyncpg.Record]:
        """Nothing, while there are no tables."""
        return await self._postgres.fetch(sql, *values) if await self.space() else []
