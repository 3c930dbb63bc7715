"""Where in a text a rule applies, and what of a text that still grows must wait."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

REDACTED = "[REDACTED]"


@dataclass(frozen=True, slots=True)
class Span:
    start: int
    end: int
    replacement: str = REDACTED


@dataclass(frozen=True, slots=True)
class Scan:
    """`held`: nothing that more text could change lies before it, and no span ends beyond.
    Scanned again from there, with what came, the text has the spans that the whole has."""

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
    """Finds that share characters are one. What reaches into what is held waits with it."""
    spans: list[tuple[int, int]] = []
    for start, end in sorted(found):
        if spans and start < spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        else:
            spans.append((start, end))
    for start, end in spans:
        if end > held:
            held = min(held, start)
    return Scan([Span(*span) for span in spans if span[1] <= held], held)
