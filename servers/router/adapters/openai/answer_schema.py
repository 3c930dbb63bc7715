"""A JSON Schema for an answer, in OpenAI's form.

In strict mode OpenAI promises an answer that fits, and refuses schemas that it can't promise
that for. Those go out without strict mode: the router checks every answer itself.
"""

import re
from collections.abc import Mapping
from typing import Any

from servers.domain.chat import Json

_NAME = re.compile(r"[^a-zA-Z0-9_-]+")
_LONGEST_NAME = 64
_DEEPEST = 10  # levels of objects and lists
_STRICT = frozenset(
    {
        *("$defs", "$ref", "additionalProperties", "anyOf", "const", "definitions", "description"),
        *("enum", "exclusiveMaximum", "exclusiveMinimum", "format", "items", "maxItems", "maximum"),
        *("minItems", "minimum", "multipleOf", "pattern", "properties", "required", "title"),
        "type",
    }
)
_FORMATS = frozenset(
    ("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid")
)


def response_format(schema: Json) -> dict[str, Any]:
    wanted = {"name": _name(schema), "schema": schema, "strict": is_strict(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": wanted}}


def for_objects(schema: Json) -> dict[str, Any]:
    """The same for OpenAI itself, which takes no schema of anything but an object."""
    return response_format(schema) if schema.get("type") == "object" else {}


def is_strict(schema: Json) -> bool:
    """Whether strict mode allows it: no property is optional, and there is none besides."""
    return schema.get("type") == "object" and _allowed(schema, 0)


def _allowed(schema: Any, depth: int) -> bool:
    if not isinstance(schema, Mapping) or not schema.keys() <= _STRICT or depth > _DEEPEST:
        return False
    if "$ref" in schema:
        return len(schema) == 1
    if schema.get("format", "uuid") not in _FORMATS or not _closed(schema):
        return False
    return all(_allowed(each, depth + 1) for each in _within(schema))


def _closed(schema: Json) -> bool:
    kind, properties = schema.get("type"), schema.get("properties")
    if kind != "object" and not (isinstance(kind, list) and "object" in kind):
        return properties is None
    required = schema.get("required")
    return (
        schema.get("additionalProperties") is False
        and isinstance(properties, Mapping)
        and isinstance(required, list | tuple)
        and set(required) == properties.keys()
    )


def _within(schema: Json) -> list[Any]:
    """The schemas that it is made of."""
    found = list(schema.get("anyOf") or ())
    if "items" in schema:
        found.append(schema["items"])
    for key in ("properties", "$defs", "definitions"):
        found += (schema.get(key) or {}).values()
    return found


def _name(schema: Json) -> str:
    title = schema.get("title")
    return _NAME.sub("_", title)[:_LONGEST_NAME] if isinstance(title, str) and title else "answer"
