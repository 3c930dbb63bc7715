"""Addresses and numbers that tell of a person. The scanning itself is the kernel's."""

from collections.abc import Iterable

from servers.agents.guardrails.spans import Scan, Span
from servers.kernel.native import ALL_PII, PII_KINDS, pii_scan

_REPLACEMENTS = tuple(f"[{kind.upper()}]" for kind in PII_KINDS)


class PiiScanner:
    context = 2

    def __init__(self, entities: Iterable[str] | None = None) -> None:
        wanted = PII_KINDS if entities is None else set(entities)
        self._kinds = ALL_PII & sum(1 << PII_KINDS.index(each) for each in wanted)

    def scan(self, text: str, begin: int, final: bool) -> Scan:
        found, held = pii_scan(text, begin, final, self._kinds)
        return Scan([Span(start, end, _REPLACEMENTS[kind]) for start, end, kind in found], held)
