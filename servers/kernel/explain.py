"""Says what is wrong with a manifest in the words of who wrote it, not of the validator.

Never shows the value of a free text: it may be a secret.
"""

from difflib import get_close_matches
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from servers.kernel.fields import PATTERNS
from servers.kernel.paths import Path, Wrong

MISSING = "is missing"
_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "model_type": "a mapping of keys",
    "model_attributes_type": "a mapping of keys",
    "dict_type": "a mapping of keys",
    "tuple_type": "a list",
    "list_type": "a list",
}


def explained(kind: type[BaseModel], error: ValidationError) -> list[Wrong]:
    return [Wrong(_path(each), _sentence(kind, each)) for each in error.errors(include_url=False)]


def nearest(word: str, known: list[str]) -> str:
    """ "; did you mean 'x'?", or what there is."""
    if close := get_close_matches(word, known, n=1, cutoff=0.6):
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(known)}" if known else ""


def _path(each: ErrorDetails) -> Path:
    return tuple(step for step in each["loc"] if step != "[key]")


def _sentence(kind: type[BaseModel], each: ErrorDetails) -> str:
    problem, found = each["type"], each["input"]
    match problem:
        case "extra_forbidden":
            key = str(each["loc"][-1])
            return f"unknown key {key!r}" + nearest(key, _known_keys(kind, _path(each)[:-1]))
        case "missing":
            return MISSING
        case "literal_error":
            return _not_among(found, each.get("ctx", {}).get("expected", ""))
        case "string_pattern_mismatch":
            return f"expected {PATTERNS[each['ctx']['pattern']]}"
        case "value_error" | "assertion_error":
            return each["msg"].partition(", ")[2]
    if problem in _EXPECTED:
        quote = " (put it in quotes)" if problem == "string_type" and _is_scalar(found) else ""
        return f"expected {_EXPECTED[problem]}, found {described(found)}{quote}"
    return each["msg"].replace("Input should be", "must be")


def described(value: Any) -> str:
    """The kind of a value, for people who write YAML."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
    return type(value).__name__


def _is_scalar(value: Any) -> bool:
    return isinstance(value, bool | int | float)


def _not_among(found: Any, expected: str) -> str:
    words = [word.strip("'") for word in expected.replace(" or ", ", ").split(", ")]
    if not isinstance(found, str):
        return f"expected one of {', '.join(words)}, found {described(found)}"
    if len(words) == 1:
        return f"expected {words[0]!r}, found {found[:60]!r}"
    return f"unknown value {found[:60]!r}" + nearest(found, words)


def _known_keys(kind: type[BaseModel], path: Path) -> list[str]:
    """The keys that may stand in the mapping at `path`."""
    places: list[Any] = [kind]
    for step in path:
        places = [inner for place in places for inner in _inside(place, step)]
    models = [place for place in places if _is_model(place)]
    return [name for model in models for name in (*model.model_fields, *getattr(model, "also", ()))]


def _inside(place: Any, step: str | int) -> list[Any]:
    """The types that may stand one step inside a type."""
    if _is_model(place):
        field = place.model_fields.get(str(step))
        return _alternatives(field.annotation) if field else []
    items = [each for each in get_args(place) if each is not Ellipsis]
    return _alternatives(items[-1]) if items else []


def _alternatives(place: Any) -> list[Any]:
    return list(get_args(place)) if get_origin(place) in (Union, UnionType) else [place]


def _is_model(place: Any) -> bool:
    return isinstance(place, type) and issubclass(place, BaseModel)


def nearest_key(kind: type[BaseModel], path: Path, key: str) -> str | None:
    """None where `key` may stand in the mapping at `path`, else a hint what may."""
    places: list[Any] = [kind]
    for step in path:
        places = [inner for place in places for inner in _inside(place, step)]
    if any(not _is_model(place) for place in places):  # a free mapping
        return None
    known = _known_keys(kind, path)
    return None if key in known else nearest(key, known)
