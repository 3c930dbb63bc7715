"""What the tables of a collection in PostgreSQL are, and how values get there and back.

Vectors and words go as they are in memory (pgvector's own codecs), not as texts.
"""

from array import array
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from pgvector import SparseVector, Vector
from pgvector.asyncpg import register_vector

from servers.domain import embeddings
from servers.domain.rag import Where
from servers.kernel.postgres import Connection
from servers.kernel.vectors import words
from servers.kernel.vectors.ports import Found, Record, Scope, values_of

RECORD = (
    "r.id, r.title, r.uri, r.content_hash, r.points, r.metadata::text, r.acl, r.updated_at, "
    "r.expires_at"
)
POINT = f"p.position, p.text, p.start, p.stop, {RECORD}"
SPACES = (
    "CREATE TABLE IF NOT EXISTS astromesh_vectors("
    "collection text PRIMARY KEY, model text NOT NULL, dimension int NOT NULL)"
)
TABLES = """
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
# Of tables that an older version made.
WORDS = """
    ALTER TABLE {p} DROP COLUMN words, ADD COLUMN terms int[] NOT NULL DEFAULT '{{}}',
        ADD COLUMN weights {t}.sparsevec NOT NULL DEFAULT '{{}}/1000000000';
    CREATE INDEX ON {p} USING gin (terms);
"""
EXPIRY = """
    ALTER TABLE {r} ADD COLUMN expires_at float8;
    CREATE INDEX ON {r} (expires_at) WHERE expires_at IS NOT NULL;
"""
_EXTENSION = (
    "SELECT nspname AS name, quote_ident(nspname) AS quoted FROM pg_extension "
    "JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'vector'"
)
_LOCK = 7_263_041_955_110_412_322  # any number that no other program takes


async def take_vectors(connection: Connection) -> None:
    """Make a connection take vectors as they are in memory, where the extension is there."""
    if found := await connection.fetchrow(_EXTENSION):
        await register_vector(connection, schema=found["name"])  # type: ignore[arg-type]


async def schema_of_vectors(connection: Connection) -> str:
    """For SQL: somebody may have put the extension where our search_path does not lead."""
    found = await connection.fetchrow(_EXTENSION)
    return str(found["quoted"]) if found else "public"


async def one_at_a_time(connection: Connection) -> None:
    await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)


def condition(scope: Scope, where: Where) -> tuple[str, list[Any]]:
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


def record(row: Any) -> Record:
    name, title, uri, content_hash, points, metadata, acl, *times = row
    return Record(
        name, title, uri, content_hash, points, orjson.loads(metadata), tuple(acl), *times
    )


def found(similarity: float, kept: Vector | None, *row: Any) -> Found:
    index, text, start, end, *rest = row
    numbers = None if kept is None else array("f", kept.to_list())
    return Found(record(rest), index, text, start, end, float(similarity), numbers)


def json(value: Any) -> str:
    return orjson.dumps(dict(value)).decode()


def vector(of: embeddings.Vector) -> Vector:
    return Vector(np.frombuffer(of, np.float32))


def terms_and_weights(text: str) -> tuple[list[int], SparseVector]:
    of = words.numbered(words.weights(text))
    return list(of), sparse(of)


def vector_column(schema: str, wanted: bool) -> str:
    return "p.vector" if wanted else f"NULL::{schema}.vector"


def sparse(of: Mapping[int, float]) -> SparseVector:
    # PostgreSQL counts from 1, and what goes to it from 0.
    return SparseVector({number - 1: weight for number, weight in of.items()}, words.NUMBERS)
