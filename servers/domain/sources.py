"""What the answers of runs rest on."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

MOST_SOURCES: Final = 100  # of a run
_NAMED: Final = re.compile(r"\[\^?(\d{1,9}(?:\s*[,;]\s*\^?\d{1,9})*)\]")  # [1], [1, 2], [^1]


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
    named = {int(n) for group in _NAMED.findall(answer) for n in re.findall(r"\d+", group)}
    marked = [replace(each, cited=each.number in named) for each in sources]
    first = sorted(marked, key=lambda each: (not each.cited, each.number))[:MOST_SOURCES]
    return tuple(sorted(first, key=lambda each: each.number))
