"""The counters of a budget as one tenant may see them."""

from collections.abc import Sequence

from servers.domain.usage import BudgetState
from servers.router.budgets.amounts import NANO
from servers.router.budgets.budget import Budget, Counter
from servers.router.budgets.ledger import Ledger, Standing
from servers.router.budgets.windows import bounds


async def states(budget: Budget, ledger: Ledger, tenant: str, at: float) -> Sequence[BudgetState]:
    """Those of the open window: the tenant's own, and those that tell no tenant apart."""
    whose = tenant if "tenant" in budget.apart else None
    start, end = bounds(budget.window, at)
    known = dict(await ledger.standings(budget, whose, start))
    if set(budget.apart) <= {"tenant"}:  # the only one: it is there before its first call
        group = tuple((name, tenant) for name in budget.apart)
        known.setdefault(Counter(budget.name, group, start, end), Standing())
    return [
        _state(budget, counter, known[counter])
        for counter in sorted(known, key=lambda counter: counter.group)
    ]


def _state(budget: Budget, counter: Counter, standing: Standing) -> BudgetState:
    limit, spent, reserved = budget.limit, standing.spent, standing.reserved
    return BudgetState(
        budget.name,
        dict(counter.group),
        budget.window,
        budget.action,
        float(counter.starts_at),
        None if counter.ends_at is None else float(counter.ends_at),
        None if limit.nano is None else limit.nano / NANO,
        spent.nano / NANO,
        reserved.nano / NANO,
        limit.tokens,
        spent.tokens,
        reserved.tokens,
    )
