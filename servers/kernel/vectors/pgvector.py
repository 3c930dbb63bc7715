"""Vectors in PostgreSQL, by its extension `vector`. Needs the extra `pgvector`.

A collection is two tables of its own, as an index (HNSW, cosine) is of one length of vectors.
The search goes on in the index until it has found enough of what may be seen (iterative scan,
pgvector 0.8), so that a narrow filter loses nothing. Words are kept as numbers: which ones a
text has (an index finds those that have any), and what each weighs in it.
"""

from array import array
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import orjson

from servers.domain.embeddings import Vector
from servers.domain.rag import Where
from servers.kernel.errors import NotReady
from servers.kernel.postgres import Connection, Postgres, open_postgres
from servers.kernel.vectors import words
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.ports import (
    NO_FILTER,
    Found,
    Point,
    Record,
    Scope,
    Space,
    check_space,
    unchanged,
    values_of,
)

_PATIENCE = 10.0  # seconds that work waits for a PostgreSQL that is away
_BATCH = 200  # points of one statement
_MOST_INDEXED = 2000  # numbers of a vector that HNSW takes
_RECORD = (
    "r.id, r.title, r.uri, r.content_hash, r.points, r.metadata::text, r.acl, r.updated_at, "
    "r.expires_at"
)
_POINT = f"p.position, p.text, p.start, p.stop, {_RECORD}"
_EXTENSION = (
    "SELECT quote_ident(nspname) FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace "
    "WHERE extname = 'vector'"
)
_SPACES = (
    "CREATE TABLE IF NOT EXISTS astromesh_vectors("
    "collection text PRIMARY KEY, model text NOT NULL, dimension int NOT NULL)"
)


@asynccontextmanager
async def open_at(collection: Collection) -> AsyncIterator["PgvectorStore"]:
    """Raises Unavailable (STORE_UNAVAILABLE), NotReady (STATE_NOT_WRITABLE) without the
    extension."""
    said_in = f"the store of collection {collection.name!r}"
    async with open_postgres(collection.address, said_in, _PATIENCE) as postgres:
        store = PgvectorStore(postgres, collection.name)
        await store.set_up()
        yield store


class PgvectorStore:
    """Made by `open_at`. Any number of processes may share a collection."""

    def __init__(self, postgres: Postgres, name: str) -> None:
        self._postgres, self._name = postgres, name
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
            await _one_at_a_time(connection)
            await connection.execute("CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public")
            await connection.execute(_SPACES)
            # Wherever somebody has put it: that need not be on our search_path.
            self._type = await connection.fetchval(_EXTENSION)
            await self._add_words(connection)
            await self._add_expiry(connection)

    async def _add_words(self, connection: Connection) -> None:
        """To a table that an older version made."""
        points = await connection.fetchval("SELECT to_regclass($1)::oid", self._points)
        sql = "SELECT 1 FROM pg_attribute WHERE attrelid = $1 AND attname = 'weights'"
        if points is None or await connection.fetchval(sql, points):
            return
        await connection.execute(_WORDS.format(p=self._points, t=self._type))
        sql = f"SELECT number, text FROM {self._points} WHERE number > $1 ORDER BY number LIMIT 500"
        last = -1
        while found := await connection.fetch(sql, last):
            rows = [(number, *self._words(text)) for number, text in found]
            await connection.executemany(
                f"UPDATE {self._points} SET terms = $2::text::int[], "
                f"weights = $3::text::{self._type}.sparsevec WHERE number = $1",
                rows,
            )
            last = found[-1][0]

    async def _add_expiry(self, connection: Connection) -> None:
        records = await connection.fetchval("SELECT to_regclass($1)::oid", self._records)
        sql = "SELECT 1 FROM pg_attribute WHERE attrelid = $1 AND attname = 'expires_at'"
        if records is not None and not await connection.fetchval(sql, records):
            await connection.execute(_EXPIRY.format(r=self._records))

    def _words(self, text: str) -> tuple[str, str]:
        of = words.numbered(words.weights(text))
        return _array(of), _sparse(of)

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
            await _one_at_a_time(connection)
            taken = await connection.fetchval(
                "INSERT INTO astromesh_vectors VALUES ($1, $2, $3) "
                "ON CONFLICT DO NOTHING RETURNING true",
                *(self._name, space.model, space.dimension),
            )
            if not taken:
                return
            await connection.execute(
                _TABLES.format(r=self._records, p=self._points, t=self._type, n=space.dimension)
            )
            if space.dimension <= _MOST_INDEXED:
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
        sql = f"SELECT {_RECORD} FROM {self._records} r WHERE tenant = $1 AND id = $2 FOR UPDATE"
        found = await connection.fetchrow(sql, tenant, record.id)
        return unchanged(_record(found) if found else None, record)

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
                *(_json(record.metadata), list(record.acl), record.updated_at, record.expires_at),
            )
            await connection.execute(f"DELETE FROM {self._points} WHERE record = $1", number)
            rows = [
                (
                    *(number, tenant, each.index, each.text, each.start, each.end),
                    *(_numbers(each.vector), *self._words(each.text)),
                )
                for each in points
            ]
            sql = (
                f"INSERT INTO {self._points} (record, tenant, position, text, start, stop, "
                "vector, terms, weights) VALUES ($1, $2, $3, $4, $5, $6, "
                f"$7::text::{self._type}.vector, $8::text::int[], "
                f"$9::text::{self._type}.sparsevec)"
            )
            # Each part has the time of an answer, however many points there are.
            for at in range(0, len(rows), _BATCH):
                await connection.executemany(sql, rows[at : at + _BATCH])
            return True

    async def delete(self, tenant: str, *records: str) -> int:
        sql = f"DELETE FROM {self._records} WHERE tenant = $1 AND id = ANY ($2) RETURNING points"
        found = await self._fetch(sql, tenant, list(records)) if records else []
        return sum(int(points) for (points,) in found)

    async def sweep(self, now: float) -> int:
        sql = f"DELETE FROM {self._records} WHERE expires_at <= $1 RETURNING 1"
        return len(await self._fetch(sql, now))

    async def record(self, scope: Scope, record: str) -> Record | None:
        condition, values = _condition(scope, {})
        sql = f"SELECT {_RECORD} FROM {self._records} r WHERE {condition} AND r.id = "
        found = await self._fetch(f"{sql}${len(values) + 1}", *values, record)
        return _record(found[0]) if found else None

    async def records(
        self, scope: Scope, after: str, limit: int, where: Where = NO_FILTER
    ) -> Sequence[Record]:
        condition, values = _condition(scope, where)
        n = len(values)
        sql = (
            f"SELECT {_RECORD} FROM {self._records} r WHERE {condition} "
            f'AND r.id > ${n + 1} ORDER BY r.id COLLATE "C" LIMIT ${n + 2}'
        )
        return [_record(row) for row in await self._fetch(sql, *values, after, limit)]

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
        condition, values = _condition(scope, where)
        n = len(values)
        distance = f"p.vector OPERATOR({self._type}.<=>) ${n + 1}::text::{self._type}.vector"
        sql = (
            f"SELECT 1 - ({distance}) AS near, {_numbers_of(with_vectors)}, {_POINT} "
            f"{self._from()} WHERE p.tenant = $1 AND {condition} "
            f"ORDER BY {distance} LIMIT ${n + 2}"
        )

        async def look(connection: Connection) -> list[asyncpg.Record]:
            async with connection.transaction(readonly=True):
                await connection.execute(_SEARCHING.format(ef=min(1000, max(100, limit))))
                return await connection.fetch(sql, *values, _numbers(vector), limit)

        return [_found(*row) for row in await self._postgres.steadily(look)]

    async def keywords(
        self, scope: Scope, text: str, limit: int, where: Where, with_vectors: bool = False
    ) -> Sequence[Found]:
        asked = [words.number(word) for word in words.asked(text)]
        condition, values = _condition(scope, where)
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
        product = f"p.weights OPERATOR({self._type}.<#>) ${n + 2}::text::{self._type}.sparsevec"
        sql = (
            f"SELECT -({product}) AS score, {_numbers_of(with_vectors)}, {_POINT} "
            f"{having} && ${n + 1}::int[] "
            f"ORDER BY round(-({product})::numeric, 4) DESC, r.id, p.position LIMIT ${n + 3}"
        )
        best = await self._fetch(sql, *values, list(rare), _sparse(rare), limit)
        return words.in_order(((score, _found(0.0, *rest)) for score, *rest in best), limit)

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


_TABLES = """
    CREATE TABLE {r} (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant text NOT NULL,
        id text COLLATE "C" NOT NULL, title text NOT NULL, uri text NOT NULL,
        content_hash text NOT NULL, points int NOT NULL, metadata jsonb NOT NULL,
        acl text[] NOT NULL, updated_at float8 NOT NULL, expires_at float8, UNIQUE (tenant, id));
    CREATE INDEX ON {r} (expires_at) WHERE expires_at IS NOT NULL;
    CREATE TABLE {p} (
        number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        record bigint NOT NULL REFERENCES {r} ON DELETE CASCADE, tenant text NOT NULL,
        position int NOT NULL, text text NOT NULL, start int NOT NULL, stop int NOT NULL,
        vector {t}.vector({n}) NOT NULL, terms int[] NOT NULL,
        weights {t}.sparsevec NOT NULL);
    CREATE INDEX ON {p} (record);
    CREATE INDEX ON {p} USING gin (terms);
"""
_WORDS = """
    ALTER TABLE {p} DROP COLUMN words, ADD COLUMN terms int[] NOT NULL DEFAULT '{{}}',
        ADD COLUMN weights {t}.sparsevec NOT NULL DEFAULT '{{}}/1000000000';
    CREATE INDEX ON {p} USING gin (terms);
"""
_EXPIRY = """
    ALTER TABLE {r} ADD COLUMN expires_at float8;
    CREATE INDEX ON {r} (expires_at) WHERE expires_at IS NOT NULL;
"""
# Usually a scan gives up after 20,000 points, or what work_mem holds: with one tenant among many
# that would lose what it should find.
_SEARCHING = (
    "SET LOCAL hnsw.ef_search = {ef}; SET LOCAL hnsw.iterative_scan = strict_order; "
    "SET LOCAL hnsw.max_scan_tuples = 2147483647; SET LOCAL hnsw.scan_mem_multiplier = 1000"
)
_LOCK = 7_263_041_955_110_412_322  # any number that no other program takes


async def _one_at_a_time(connection: Connection) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


def _condition(scope: Scope, where: Where) -> tuple[str, list[Any]]:
    """What is in scope, as SQL on the records `r`; its first value is the tenant."""
    parts: list[str] = ["r.tenant = $1"]
    values: list[Any] = [scope.tenant]
    if scope.principal is not None:
        values.append(scope.principal)
        parts.append(f"(r.acl = '{{}}' OR ${len(values)} = ANY (r.acl))")
    if scope.now is not None:
        values.append(scope.now)
        parts.append(f"(r.expires_at IS NULL OR r.expires_at > ${len(values)})")
    for key, wanted in values_of(where):
        values += [key, [orjson.dumps(each).decode() for each in wanted]]
        parts.append(f"r.metadata -> ${len(values) - 1} = ANY (${len(values)}::text[]::jsonb[])")
    return " AND ".join(parts), values


def _record(row: Any) -> Record:
    name, title, uri, content_hash, points, metadata, acl, *times = row
    return Record(
        name, title, uri, content_hash, points, orjson.loads(metadata), tuple(acl), *times
    )


def _found(similarity: float, numbers: Sequence[float] | None, *row: Any) -> Found:
    index, text, start, end, *rest = row
    vector = None if numbers is None else array("f", numbers)
    return Found(_record(rest), index, text, start, end, float(similarity), vector)


def _array(of: Mapping[int, float]) -> str:
    return f"{{{','.join(map(str, of))}}}"


def _sparse(of: Mapping[int, float]) -> str:
    said = ",".join(f"{number}:{weight:.9g}" for number, weight in sorted(of.items()))
    return f"{{{said}}}/{words.NUMBERS}"


def _json(value: Any) -> str:
    return orjson.dumps(dict(value)).decode()


def _numbers_of(with_vectors: bool) -> str:
    return "p.vector::real[]" if with_vectors else "NULL::real[]"


def _numbers(vector: Vector) -> str:
    return orjson.dumps(list(vector)).decode()
