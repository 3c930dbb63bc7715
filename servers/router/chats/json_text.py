"""Finds the JSON object in what a model said, whatever it put around it."""

import json
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import orjson

Found: TypeAlias = tuple[str, dict[str, Any]]  # the object as it was written, and its value

_MOST_STARTS = 64  # places where an object may begin that are looked at
_BEGINS = re.compile(r"""\{\s*["']""")


def objects(text: str) -> Iterator[Found]:
    """Every JSON object that `text` could mean, the likeliest first: the whole of it, what is
    in a code fence, what stands between other words."""
    if (whole := _object(text.strip())) is not None:
        yield text.strip(), whole
        return
    for fenced in text.split("```")[1::2]:
        written = fenced.partition("\n")[2].strip()  # the first line names the language
        if (inner := _object(written)) is not None:
            yield written, inner
    yield from _between(text)


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = orjson.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _between(text: str) -> Iterator[Found]:
    start = text.find("{")
    for _ in range(_MOST_STARTS):
        if start < 0:
            return
        end = _end(text, start)
        if (value := _object(text[start:end])) is not None:
            yield text[start:end], value
        elif _BEGINS.match(text, start):
            return  # it is broken, and what is whole inside it is not meant
        start = text.find("{", max(end, start + 1))


def _end(text: str, start: int) -> int:
    """Where the object ends that begins at `start`; there itself where none does."""
    try:
        return _DECODER.raw_decode(text, start)[1]
    except (ValueError, RecursionError):
        return start


_DECODER = json.JSONDecoder()
