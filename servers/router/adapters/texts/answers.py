"""What servers answer of texts: vectors and scores, by number, in whatever form they come."""

import sys
from array import array
from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from servers.domain.embeddings import Vector
from servers.router.adapters.failures import garbage
from servers.router.adapters.http import Call


def vector(found: Any) -> Vector:
    """Numbers, or base64 of float32, least byte first. Else raises TypeError or ValueError."""
    if isinstance(found, str):
        made = array("f")
        made.frombytes(b64decode(found, validate=True))
        if sys.byteorder == "big":
            made.byteswap()
    else:
        made = array("f", found)
    if not made:
        raise ValueError("no numbers")
    return made


def as_many(found: Sequence[Any], wanted: int, what: str, call: Call) -> Sequence[Any]:
    """`found`, where it has one of them for each text."""
    if not isinstance(found, list):
        raise TypeError(type(found).__name__)
    if len(found) != wanted:
        raise garbage(call.base, f"answered {len(found)} {what} for {wanted} texts")
    return found


def in_order(rows: Sequence[Mapping[str, Any]]) -> Iterable[Mapping[str, Any]]:
    """By their `index`; as they came where they have none. Raises for an index twice."""
    places = [row.get("index", at) for at, row in enumerate(rows)]
    if sorted(places) != list(range(len(rows))):
        raise ValueError(f"these indexes: {places[:8]}")
    return (rows[at] for at in sorted(range(len(rows)), key=places.__getitem__))
