"""JSON Schemas that strangers write, and values that models write to fit them.

A schema is checked before it is used, nothing is ever fetched for it, and what checking a
value may cost is bounded: patterns run in linear time, and values that would take too many
steps are not checked at all.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import jsonschema_rs
import orjson

from servers.kernel.paths import Path, Wrong, dotted
from servers.kernel.schema_work import Work
from servers.kernel.subschemas import Schema, all_of

MOST_BYTES = 65_536
MOST_DEPTH = 64
MOST_PATTERNS = 50
MOST_STEPS = 100_000  # of checking a value
_TELLING_STEPS = 10_000  # of saying what is wrong with it, which takes longer
_PATTERN_BYTES = 262_144  # of memory for one compiled pattern
_MOST_CHARACTERS = 300  # of what is said about one fault
_REFUSED = ("$dynamicRef", "$recursiveRef")


class NotASchema(ValueError):
    """It can't be used; `wrong` says where and why."""

    def __init__(self, wrong: Wrong) -> None:
        super().__init__(f"{dotted(wrong.path)}: {wrong.says}" if wrong.path else wrong.says)
        self.wrong = wrong


class JsonSchema:
    """A JSON Schema of type object. Draft 2020-12, unless its ``$schema`` names another one."""

    def __init__(self, schema: Schema) -> None:
        """Raises NotASchema."""
        if wrong := next(_too_large(schema), None) or next(_unfit(schema), None):
            raise NotASchema(wrong)
        self._validator = _validator(schema)
        self._work = Work(schema)
        if not self._work.affordable({}, MOST_STEPS):
            raise NotASchema(Wrong((), "refers to itself without end"))

    def faults(self, value: Any, most: int = 5) -> list[str]:
        """What is wrong with `value`, such as ``$.age: "x" is not of type "integer"``."""
        if not self._work.affordable(value, MOST_STEPS):
            return ["$: it is too large, or nested too deeply, to be checked"]
        try:
            if self._validator.is_valid(value):
                return []
            if not self._work.affordable(value, _TELLING_STEPS):
                return ["$: it does not fit; it is too large to say where"]
            found = islice(self._validator.iter_errors(value), most)
            return [f"{_place(e.instance_path)}: {e.message}"[:_MOST_CHARACTERS] for e in found]
        except ValueError as unreadable:  # half a character, or nested too deeply to be shown
            return [f"$: {unreadable}"[:_MOST_CHARACTERS]]


def wrong_schema(schema: Schema) -> Wrong | None:
    """What keeps it from being used, if anything does."""
    try:
        JsonSchema(schema)
    except NotASchema as faulty:
        return faulty.wrong
    return None


def _too_large(schema: Schema) -> Iterator[Wrong]:
    if not _within_depth(schema):
        yield Wrong((), f"is nested more than {MOST_DEPTH} levels deep")
        return
    try:
        size = len(orjson.dumps(schema))
    except TypeError:
        yield Wrong((), "is not JSON")
        return
    if size > MOST_BYTES:
        yield Wrong((), f"has {size} bytes; at most {MOST_BYTES} are allowed")


def _unfit(schema: Schema) -> Iterator[Wrong]:
    if schema.get("type") != "object":
        yield Wrong(("type",), "must be 'object': a structured answer is a JSON object")
    patterns = 0
    for path, each in all_of(schema):
        yield from _reaches_out(path, each)
        own = each.get("patternProperties")
        patterns += ("pattern" in each) + (len(own) if isinstance(own, dict) else 0)
    if patterns > MOST_PATTERNS:
        yield Wrong((), f"has {patterns} patterns; at most {MOST_PATTERNS} are allowed")


def _reaches_out(path: Path, schema: Schema) -> Iterator[Wrong]:
    reference = schema.get("$ref")
    if isinstance(reference, str) and reference != "#" and not reference.startswith("#/"):
        says = f"{reference!r} is not inside the schema; only '#/...' is, nothing is fetched"
        yield Wrong((*path, "$ref"), says)
    if path and "$id" in schema:
        yield Wrong((*path, "$id"), "is allowed at the top only")
    for keyword in _REFUSED:
        if keyword in schema:
            yield Wrong((*path, keyword), "is not supported; use $ref")


def _validator(schema: Schema) -> jsonschema_rs.Validator:
    options = jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES)
    try:
        return jsonschema_rs.validator_for(
            dict(schema), pattern_options=options, retriever=_nothing, validate_formats=True
        )
    except jsonschema_rs.ValidationError as faulty:
        raise NotASchema(Wrong(tuple(faulty.instance_path), _says(faulty.message))) from None
    except ValueError as faulty:
        raise NotASchema(Wrong((), _says(str(faulty)))) from None


def _nothing(address: str) -> Any:
    raise ValueError("nothing is fetched")


def _says(message: str) -> str:
    return message.partition("\n")[0][:_MOST_CHARACTERS]


def _within_depth(value: Any) -> bool:
    pending = [(value, 1)]
    while pending:
        each, depth = pending.pop()
        inner = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        if depth > MOST_DEPTH:
            return False
        pending.extend((one, depth + 1) for one in inner)
    return True


def _place(path: list[str | int]) -> str:
    return f"${'.' if path and isinstance(path[0], str) else ''}{dotted(tuple(path))}"
