"""Records and points as documents of a database that knows no tables.

Metadata is filtered by *marks*: texts made of a key, a type and a value, so that any key will
do, and 1 is not true.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import orjson

from servers.domain.rag import Scalar
from servers.kernel.vectors.ports import Found, Point, Record, Scope

VECTOR = "vector"  # of a payload that was read with it
EVERYBODY = "*"  # before each name stands a character, so that nobody is named so


def of_record(tenant: str, record: Record, points: int) -> dict[str, Any]:
    return {
        "tenant": tenant,
        "record": record.id,
        "title": record.title,
        "uri": record.uri,
        "content_hash": record.content_hash,
        "points": points,
        "metadata": orjson.dumps(dict(record.metadata)).decode(),
        "marks": [mark(key, value) for key, value in record.metadata.items()],
        "fields": list(record.metadata),
        "acl": [f"@{each}" for each in record.acl] or [EVERYBODY],
        "updated_at": record.updated_at,
        **({} if record.expires_at is None else {"expires_at": record.expires_at}),
    }


def of_point(point: Point) -> dict[str, Any]:
    return {
        "index": point.index,
        "text": point.text,
        "start": point.start,
        "end": point.end,
    }


def record_from(payload: Mapping[str, Any]) -> Record:
    acl = tuple(each[1:] for each in payload["acl"] if each != EVERYBODY)
    return Record(
        payload["record"],
        payload["title"],
        payload["uri"],
        payload["content_hash"],
        payload["points"],
        orjson.loads(payload["metadata"]),
        acl,
        payload["updated_at"],
        payload.get("expires_at"),
    )


def found_from(payload: Mapping[str, Any], similarity: float) -> Found:
    return Found(
        record_from(payload),
        payload["index"],
        payload["text"],
        payload["start"],
        payload["end"],
        similarity,
        payload.get(VECTOR),
    )


Head: TypeAlias = tuple[Record, str]  # of a record's point 0, and which version that is of


def head_from(payload: Mapping[str, Any]) -> Head:
    return record_from(payload), payload["version"]


def newest(heads: Iterable[Head]) -> dict[str, Head]:
    """Of each record the newest version, by id."""
    found: dict[str, Head] = {}
    for head in sorted(heads, key=lambda each: (each[0].updated_at, each[1])):
        found[head[0].id] = head
    return found


def of_tenants(swept: Iterable[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """Of which tenants records are, and which ones."""
    found: dict[str, set[str]] = {}
    for payload in swept:
        found.setdefault(payload["tenant"], set()).add(payload["record"])
    return [(tenant, sorted(records)) for tenant, records in found.items()]


def left_behind(heads: Sequence[Head], now: float) -> list[str]:
    """Older versions of records whose newest one is over by `now`."""
    last = newest(heads)
    over = {name for name, (record, _) in last.items() if is_over(record, now)}
    return [
        version for record, version in heads if record.id in over and version != last[record.id][1]
    ]


def is_seen(scope: Scope, record: Record) -> bool:
    mine = scope.principal is None or not record.acl or scope.principal in record.acl
    return mine and (scope.now is None or not is_over(record, scope.now))


def is_over(record: Record, now: float) -> bool:
    return record.expires_at is not None and record.expires_at <= now


def seen_by(principal: str) -> list[str]:
    return [EVERYBODY, f"@{principal}"]


def mark(key: str, value: Scalar) -> str:
    """1 and 1.0 are the same number, as they are in JSON."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**63:
        value = int(value)
    return orjson.dumps([key, value]).decode()
