"""Where in a text a rule applies, and what of a text that still grows must wait."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

REDACTED = "[REDACTED]"
_LONGEST = 256  # characters


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int
    replacement: str = REDACTED


@dataclass(frozen=True, slots=True)
class Scan:
    """`held`: nothing that more text could change begins before it. Scanned again from there, with
    what came, the text has the other spans of the whole, but for what the last one of these
    covers beyond it already."""

    spans: Sequence[Span]
    held: int


class Scanner(Protocol):
    @property
    def context(self) -> int:
        """How many characters before the beginning it looks back at."""
        ...

    def scan(self, text: str, begin: int, final: bool) -> Scan:
        """What lies from `begin` on. Not `final`: more text may come."""
        ...


def merged(found: Iterable[tuple[int, int]], held: int) -> Scan:
    """Finds that share characters are one. A chain of them is cut where one begins _LONGEST behind
    the first, or a stream would hold it for ever."""
    chains: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if chains and start < chains[-1][1] and start - chains[-1][0] < _LONGEST:
            chains[-1] = chains[-1][0], max(end, chains[-1][1])
        else:
            chains.append((start, end))
    spans: list[Span] = []
    covered = 0
    for start, end in chains:
        if end > held and start + _LONGEST > held:  # more may belong to it
            return Scan(spans, min(held, start))
        if end > covered:
            spans.append(Span(max(start, covered), end))
        covered = max(covered, end)
    return Scan(spans, held)
