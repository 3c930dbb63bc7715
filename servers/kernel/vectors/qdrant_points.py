"""Points as Qdrant keeps them, and what it compares them with."""

import uuid
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, Final

from qdrant_client import models as q

from servers.domain.rag import Where
from servers.kernel.vectors import payloads, words
from servers.kernel.vectors.ports import Point, Record, Scope, values_of

WORDS: Final = "words"  # the sparse vector
_IDS = uuid.UUID("5b1f3f0e-7d0b-4a5e-9a53-1c5a6e8e2f10")  # any, for ids made from names


def payload(tenant: str, record: Record, version: str, points: int) -> dict[str, Any]:
    """What all points of a record say."""
    return payloads.of_record(tenant, record, points) | {"version": version}


def structs(
    said: Mapping[str, Any], points: Sequence[Point], has_words: bool
) -> list[q.PointStruct]:
    """In their order."""
    return [
        q.PointStruct(
            id=str(uuid.uuid5(_IDS, f"{said['version']}/{each.index}")),
            vector=_vectors(each, has_words),
            payload={**said, **payloads.of_point(each)},
        )
        for each in points
    ]


def _vectors(point: Point, has_words: bool) -> Any:
    dense = list(point.vector)
    return {"": dense, WORDS: sparse(words.weights(point.text))} if has_words else dense


def said_by(point: q.ScoredPoint | q.Record) -> dict[str, Any]:
    said = point.payload or {}
    if point.vector is None:
        return said
    named: Any = point.vector
    dense = named[""] if isinstance(named, dict) else named
    return said | {payloads.VECTOR: array("f", dense)}


def sparse(weights: Mapping[str, float]) -> q.SparseVector:
    of = words.numbered(weights)
    return q.SparseVector(indices=list(of), values=list(of.values()))


def equals(key: str, value: str) -> q.FieldCondition:
    return q.FieldCondition(key=key, match=q.MatchValue(value=value))


def any_of(key: str, values: Sequence[str]) -> q.FieldCondition:
    return q.FieldCondition(key=key, match=q.MatchAny(any=list(values)))


def over(now: float) -> q.FieldCondition:
    return q.FieldCondition(key="expires_at", range=q.Range(lte=now))


def in_scope(scope: Scope, where: Where, must: Sequence[q.Condition] = ()) -> q.Filter:
    conditions: list[Any] = [equals("tenant", scope.tenant), *must]
    if scope.principal is not None:
        seen = payloads.seen_by(scope.principal)
        conditions.append(any_of("acl", seen))
    for key, wanted in values_of(where):
        # As texts, with their types: a key may be any text, and is no path in a payload.
        marks = [payloads.mark(key, each) for each in wanted]
        conditions.append(any_of("marks", marks))
    # What has no end is not in any range.
    return q.Filter(must=conditions, must_not=None if scope.now is None else [over(scope.now)])
