"""What became of files that were read again, for who counts and traces."""

from collections.abc import Iterable, Mapping
from typing import Final, TypeAlias

from servers.kernel.telemetry import RELOAD_KIND as KIND
from servers.kernel.telemetry import RELOAD_OUTCOME as OUTCOME
from servers.kernel.telemetry import RELOADS, Span, record

TAKEN: Final = "taken"  # new, or changed
REMOVED: Final = "removed"
REFUSED: Final = "refused"

Working: TypeAlias = Mapping[str, object]  # by name; None where there is nothing that works


def outcomes(before: Working, now: Working, refused: Iterable[str]) -> dict[str, frozenset[str]]:
    """Names by what became of them. One that goes on as it was is refused."""
    there = {name for name, each in now.items() if each is not None}
    return {
        TAKEN: frozenset(name for name in there if now[name] != before.get(name)),
        REMOVED: frozenset(before.keys() - now.keys()),
        REFUSED: frozenset(refused),
    }


def count(kind: str, found: Mapping[str, frozenset[str]], traced: Span) -> None:
    """`kind`: agent, or pipeline."""
    for outcome, names in found.items():
        traced.set_attribute(f"{RELOADS}.{kind}.{outcome}", len(names))
        for _ in names:
            record(RELOADS, 1, {KIND: kind, OUTCOME: outcome})
