"""The schemas inside a JSON Schema: found, and told apart by what they speak about."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias
from urllib.parse import unquote

from servers.kernel.paths import Path

Schema: TypeAlias = Mapping[str, Any]

# Keywords whose value holds schemas, by the value that these speak about.
HERE = ("allOf", "anyOf", "oneOf", "not", "if", "then", "else", "dependentSchemas", "dependencies")
MEMBERS = ("properties", "patternProperties", "additionalProperties", "unevaluatedProperties")
NAMES = ("propertyNames",)
ITEMS = ("items", "prefixItems", "contains", "additionalItems", "unevaluatedItems")
NOWHERE = ("$defs", "definitions")  # only by reference

_BY_NAME = frozenset(
    ("$defs", "definitions", "properties", "patternProperties", "dependentSchemas", "dependencies")
)


def under(schema: Schema, *keywords: str) -> Iterator[tuple[Path, Schema]]:
    """The schemas that these keywords of `schema` hold, and where."""
    for keyword in keywords:
        held = schema.get(keyword)
        match held:
            case dict() if keyword in _BY_NAME:
                places: list[tuple[Path, Any]] = [((keyword, name), held[name]) for name in held]
            case list():
                places = [((keyword, index), each) for index, each in enumerate(held)]
            case _:
                places = [((keyword,), held)]
        yield from ((path, each) for path, each in places if isinstance(each, dict))


def all_of(schema: Schema) -> Iterator[tuple[Path, Schema]]:
    """The schema itself and every one inside it, with their places."""
    pending: list[tuple[Path, Schema]] = [((), schema)]
    while pending:
        path, each = pending.pop()
        yield path, each
        inner = under(each, *HERE, *MEMBERS, *NAMES, *ITEMS, *NOWHERE)
        pending.extend(((*path, *place), found) for place, found in inner)


def referred(root: Schema, reference: str) -> Any:
    """What ``#/$defs/x`` points to, or None."""
    found: Any = root
    for step in filter(None, unquote(reference.removeprefix("#")).split("/")):
        name = step.replace("~1", "/").replace("~0", "~")
        match found:
            case dict():
                found = found.get(name)
            case list() if name.isdecimal() and int(name) < len(found):
                found = found[int(name)]
            case _:
                return None
    return found
