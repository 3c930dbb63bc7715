"""What a budget is: which calls it counts, which of them together, and how much they may use."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from servers.domain.caller import Account
from servers.domain.usage import DIMENSIONS, BudgetAction, Window
from servers.router.budgets.amounts import Amount
from servers.router.budgets.patterns import Pattern
from servers.router.budgets.windows import bounds

Call: TypeAlias = Mapping[str, str]  # dimension -> value, all of DIMENSIONS
Group: TypeAlias = tuple[tuple[str, str], ...]  # dimension -> value, in their order

# What these name, they name within a tenant: counting them apart counts tenants apart, too.
_OF_A_TENANT = frozenset({"principal", "agent", "session", "run"})


def call_of(account: Account, provider: str, model: str) -> dict[str, str]:
    return {
        "tenant": account.tenant,
        "principal": account.principal,
        "agent": account.agent,
        "session": account.session,
        "run": account.run,
        "provider": provider,
        "model": model,
    }


@dataclass(frozen=True, slots=True)
class Limit:
    """What the calls of one counter may use together. None: as much as they like."""

    nano: int | None = None
    tokens: int | None = None

    def fits(self, amount: Amount) -> bool:
        return (self.nano is None or amount.nano <= self.nano) and (
            self.tokens is None or amount.tokens <= self.tokens
        )


@dataclass(frozen=True, slots=True)
class Counter:
    """Which sum of a budget is meant: of what, and of which window."""

    budget: str
    group: Group
    starts_at: int  # seconds since the epoch; 0 for a run's
    ends_at: int | None  # None for a run's

    @property
    def tenant(self) -> str | None:
        """Whose it is; None where it is not a single tenant's by its group."""
        return next((value for name, value in self.group if name == "tenant"), None)


@dataclass(frozen=True, slots=True)
class Budget:
    name: str
    limit: Limit
    window: Window = Window.MONTH
    action: BudgetAction = BudgetAction.HARD
    match: tuple[tuple[str, Pattern], ...] = ()  # dimension -> pattern
    apart: tuple[str, ...] = ()  # dimensions counted apart; made by `apart`

    @property
    def hard(self) -> bool:
        return self.action is BudgetAction.HARD

    @property
    def tenant(self) -> str | None:
        """The only one it counts, by its `match`."""
        pattern = dict(self.match).get("tenant")
        return pattern.text if pattern and pattern.exact else None

    def counts(self, call: Call) -> bool:
        if self.window is Window.RUN and not call["run"]:
            return False
        return all(pattern.matches(call[name]) for name, pattern in self.match)

    def counts_tenant(self, tenant: str) -> bool:
        pattern = dict(self.match).get("tenant")
        return pattern is None or pattern.matches(tenant)

    def counter(self, call: Call, at: float) -> Counter:
        group = tuple((name, call[name]) for name in self.apart)
        return Counter(self.name, group, *bounds(self.window, at))


@dataclass(frozen=True, slots=True)
class Claim:
    """A budget that counts a call, and the counter that it counts it in."""

    budget: Budget
    counter: Counter


def apart(per: Iterable[str], window: Window, match: Mapping[str, Pattern]) -> tuple[str, ...]:
    """All dimensions that a budget counts apart: those it names, and those they imply."""
    wanted = set(per) | ({"run"} if window is Window.RUN else set())
    pinned = "tenant" in match and match["tenant"].exact
    if wanted & _OF_A_TENANT and not pinned:
        wanted.add("tenant")
    return tuple(name for name in DIMENSIONS if name in wanted)
