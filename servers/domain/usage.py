"""What model calls used, and the budgets that bound it."""

from dataclasses import dataclass, field
from enum import Enum

from servers.domain.chat import Usage

DIMENSIONS = ("tenant", "principal", "agent", "session", "run", "provider", "model")


@dataclass(frozen=True, slots=True)
class UsageQuery:
    """Which calls to add up. Empty fields mean any; `since` and `until` are seconds since
    the epoch, `until` is not included. One row for every combination of `group_by`."""

    since: float = 0.0
    until: float | None = None
    where: dict[str, str] = field(default_factory=dict)  # dimension -> value
    group_by: tuple[str, ...] = ()  # of DIMENSIONS, and "hour", "day", "month" (UTC)


@dataclass(frozen=True, slots=True)
class UsageRow:
    """What the calls of one group used together."""

    group: dict[str, str]  # group_by -> value
    calls: int
    usage: Usage  # cost_usd: of the calls whose price is known
    unpriced_calls: int = 0  # whose price is unknown: they are not in cost_usd


class Window(Enum):
    """How long a budget counts before it begins anew (UTC)."""

    RUN = "run"
    HOUR = "hour"
    DAY = "day"
    MONTH = "month"


class BudgetAction(Enum):
    HARD = "hard"  # calls beyond the limit are refused
    WARN = "warn"  # they are told of


@dataclass(frozen=True, slots=True)
class BudgetState:
    """One counter of a budget. Limits are None where there is none of that kind."""

    name: str  # of the Budget
    group: dict[str, str]  # the dimensions that it counts apart by -> value
    window: Window
    action: BudgetAction
    starts_at: float  # seconds since the epoch; 0 for a run's
    ends_at: float | None  # None for a run's
    limit_usd: float | None
    spent_usd: float
    reserved_usd: float  # for calls at work
    limit_tokens: int | None
    spent_tokens: int
    reserved_tokens: int
