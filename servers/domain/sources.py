"""What the answers of runs rest on."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

MOST_SOURCES: Final = 100  # of a run
_NAMED: Final = re.compile(r"\[\^?(\d{1,9}(?:\s*[,;]\s*\^?\d{1,9})*)\]")  # [1], [1, 2], [^1]
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')  # of JSON


@dataclass(frozen=True, slots=True)
class Source:
    """A passage that an answer may name by its number, like [1]."""

    number: int  # in the run, from 1
    document: str
    title: str
    uri: str
    start: int  # characters of the document's text
    end: int
    score: float
    cited: bool = False  # by the answer of the run, once there is one


def sources_of(answer: str, sources: Sequence[Source]) -> tuple[Source, ...]:
    """By number: those that the answer names, and as many others as there is room for."""
    if not sources:
        return ()
    named = {int(n) for group in _NAMED.findall(_words(answer)) for n in re.findall(r"\d+", group)}
    marked = [replace(each, cited=each.number in named) for each in sources]
    first = sorted(marked, key=lambda each: (not each.cited, each.number))[:MOST_SOURCES]
    return tuple(sorted(first, key=lambda each: each.number))


def _words(answer: str) -> str:
    """Where it is JSON, its strings: a list of numbers names no sources."""
    if not answer.lstrip().startswith("{"):
        return answer
    try:
        json.loads(answer)
    except (ValueError, RecursionError):
        return answer
    return "\n".join(_STRING.findall(answer))
