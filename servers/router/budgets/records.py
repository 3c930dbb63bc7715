"""The record of what calls used: one entry a call, and the port of where they are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from servers.domain.caller import Account
from servers.domain.chat import Usage
from servers.domain.usage import DIMENSIONS, UsageQuery, UsageRow
from servers.kernel.errors import InvalidInput
from servers.kernel.explain import nearest
from servers.router.budgets.amounts import Amount

PERIODS: Final = ("hour", "day", "month")
GROUPS: Final = (*DIMENSIONS, *PERIODS)


@dataclass(frozen=True, slots=True)
class Entry:
    """One call at a model. `at` is when it was reserved: that decides whose window it is in."""

    at: float  # seconds since the epoch
    account: Account
    provider: str
    model: str
    operation: str
    outcome: str
    usage: Usage


class Record(Protocol):
    """Keeps entries. Specification: tests/contract/test_usage_record.py."""

    async def add(self, entries: Sequence[Entry]) -> None:
        """All of them or none; durable on return."""
        ...

    async def rows(self, query: UsageQuery) -> Sequence[UsageRow]:
        """Raises InvalidInput where the answer would be too long. `query` is known to be sound."""
        ...

    async def totals(
        self, dimensions: Sequence[str], since: float, where: Mapping[str, str]
    ) -> Sequence[tuple[Mapping[str, str], Amount]]:
        """What was used since then, by all combinations of these dimensions."""
        ...

    async def forget(self, before: float, most: int) -> int:
        """Remove the oldest entries from before that time, at most so many; tells how many."""
        ...


def check(query: UsageQuery) -> None:
    """Raises InvalidInput for what nobody can answer."""
    for name in query.group_by:
        if name not in GROUPS:
            raise InvalidInput(
                f"group_by: {name!r} is none of {', '.join(GROUPS)}" + _meant(name, GROUPS),
                field="group_by",
            )
    for name in query.where:
        if name not in DIMENSIONS:
            raise InvalidInput(f"where: {name!r} is none of {', '.join(DIMENSIONS)}", field="where")
    if query.until is not None and query.since >= query.until:
        raise InvalidInput("end_time: ends before it begins; it must be after start_time")


def _meant(name: str, known: Sequence[str]) -> str:
    hint = nearest(name, list(known))
    return hint if "mean" in hint else ""
