"""Where counters are kept: the port, and what passes through it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from servers.router.budgets.amounts import NOTHING, Amount
from servers.router.budgets.budget import Budget, Claim, Counter


@dataclass(frozen=True, slots=True)
class Standing:
    """How a counter stands."""

    spent: Amount = NOTHING
    reserved: Amount = NOTHING

    @property
    def taken(self) -> Amount:
        return self.spent + self.reserved


@dataclass(frozen=True, slots=True)
class Hold:
    """An amount that is set aside in the counters of some claims."""

    id: str
    claims: tuple[Claim, ...]
    amount: Amount


@dataclass(frozen=True, slots=True)
class Reserved:
    """How it went. `standings`, one a claim: as they are now."""

    hold: Hold | None  # None: a hard budget has not got so much left, and nothing was set aside
    standings: tuple[Standing, ...]


class Ledger(Protocol):
    """Keeps counters. Specification: tests/contract/test_spending.py.

    Raises Unavailable (BUDGETS_UNAVAILABLE) where it can't be reached. Cancelling a call
    leaves no counter wrong.
    """

    @property
    def lasting(self) -> bool:
        """Whether counters outlive the process here; else they are made anew from the record."""
        ...

    async def reserve(self, claims: tuple[Claim, ...], amount: Amount) -> Reserved:
        """Set `amount` aside in all of them, or in none where one that is hard is short."""
        ...

    async def settle(self, hold: Hold, used: Amount) -> None:
        """Count what was used, nothing included, and give back what was set aside."""
        ...

    async def standings(
        self, budget: Budget, tenant: str | None, starts_at: int
    ) -> Sequence[tuple[Counter, Standing]]:
        """The counters of one window whose group has that tenant, or none; the last used
        thousand of them."""
        ...


LISTED = 1000  # counters of a budget that anybody is shown
