"""Places inside a JSON-like value: walked, written down, matched against patterns."""

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

Path: TypeAlias = tuple[str | int, ...]


class Wrong(NamedTuple):
    """What is wrong at a place."""

    path: Path
    says: str


def dotted(path: Path) -> str:
    """``spec.tools[0].name``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def at(value: Any, path: Path) -> Any:
    """What stands at `path`, or None."""
    for step in path:
        match value, step:
            case dict(), str():
                value = value.get(step)
            case list(), int() if step < len(value):
                value = value[step]
            case _:
                return None
    return value


def matches(value: Any, pattern: str, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every place in `value` that fits, e.g. ``spec.tools.*.type``; ``*`` is any key or item."""
    if not pattern:
        yield path, value
        return
    step, _, rest = pattern.partition(".")
    match value:
        case dict() if step == "*":
            children: list[tuple[str | int, Any]] = list(value.items())
        case dict():
            children = [(step, value[step])] if step in value else []
        case list() if step == "*":
            children = list(enumerate(value))
        case _:
            children = []
    for key, child in children:
        yield from matches(child, rest, (*path, key))


def starts(path: Path, prefix: Path) -> bool:
    return path[: len(prefix)] == prefix
