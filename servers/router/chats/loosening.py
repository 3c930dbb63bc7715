"""JSON Schemas for constrained decoding, with less in them.

Decoders turn a schema into a grammar, and each knows other keywords: a reference or a pattern
too much, and the request is refused. What is left out here only lets more through. Who gets
the JSON checks it by the whole schema anyway.
"""

from collections.abc import Mapping
from typing import Any

from servers.kernel.subschemas import Schema, referred

ANYTHING: Mapping[str, Any] = {}
_KEPT = ("type", "enum", "const", "required", "minimum", "maximum", "description")
_DEEPEST = 8  # references inside references that are followed
_MOST_ITEMS = 100  # a grammar spells out every repetition
_MOST_SCHEMAS = 500  # of one result


def loosened(schema: Schema) -> Schema:
    """The same shape without references, patterns, conditions and long repetitions."""
    room = [_MOST_SCHEMAS]
    found = _loosened(schema, schema, _DEEPEST, room)
    return found if room[0] >= 0 else _bare(schema)


def loosened_object(schema: Schema) -> Schema:
    """As `loosened`; anything that is not plainly an object is any object."""
    found = loosened(schema)
    return found if found.get("type") == "object" else {"type": "object"}


def _bare(schema: Schema) -> Schema:
    kind = schema.get("type")
    return {"type": kind} if isinstance(kind, str) else ANYTHING


def _loosened(root: Schema, schema: Any, depth: int, room: list[int]) -> Schema:
    room[0] -= 1
    if not isinstance(schema, dict) or room[0] < 0:
        return ANYTHING
    if isinstance(reference := schema.get("$ref"), str):
        return _loosened(root, referred(root, reference), depth - 1, room) if depth else ANYTHING
    found = {key: schema[key] for key in _KEPT if key in schema}
    for key in ("anyOf", "oneOf"):
        if isinstance(choices := schema.get(key), list) and "properties" not in schema:
            found["anyOf"] = [_loosened(root, each, depth, room) for each in choices]
    if isinstance(members := schema.get("properties"), dict):
        found["properties"] = {
            name: _loosened(root, each, depth, room) for name, each in members.items()
        }
    if isinstance(items := schema.get("items"), dict):
        found["items"] = _loosened(root, items, depth, room)
    for key in ("minItems", "maxItems", "minLength", "maxLength"):
        if isinstance(limit := schema.get(key), int) and limit <= _MOST_ITEMS:
            found[key] = limit
    if schema.get("additionalProperties") is False:
        found["additionalProperties"] = False
    return found
