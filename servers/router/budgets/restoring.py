"""Counters made anew from the record: after a restart, and for runs that were long silent."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from servers.domain.usage import DIMENSIONS
from servers.router.budgets.amounts import NOTHING, Amount
from servers.router.budgets.budget import Budget, Counter
from servers.router.budgets.in_process import InProcessLedger
from servers.router.budgets.ledger import LISTED
from servers.router.budgets.records import Record
from servers.router.budgets.windows import bounds

_RECENT = 86400.0  # seconds: runs of this time are in the lists after a restart


async def restored_ledger(budgets: Sequence[Budget], record: Record, now: float) -> InProcessLedger:
    """A ledger whose counters stand where the record says that they stood."""
    by_name = {budget.name: budget for budget in budgets}

    async def spent(counter: Counter) -> Amount:
        sums = await _sums(by_name[counter.budget], record, 0.0, dict(counter.group), now)
        return sums.get(counter, NOTHING)

    ledger = InProcessLedger(spent)
    for budget in budgets:
        for counter, amount in (await _so_far(budget, record, now)).items():
            ledger.restore(counter, amount)
    return ledger


async def _so_far(budget: Budget, record: Record, now: float) -> Mapping[Counter, Amount]:
    """Of the window that is open. Of runs, those of late: others are read when they go on."""
    start, end = bounds(budget.window, now)
    if end is not None:
        return await _sums(budget, record, start, {}, now)
    late = list(await _sums(budget, record, now - _RECENT, {}, now))[-LISTED:]
    return {
        counter: (await _sums(budget, record, 0.0, dict(counter.group), now))[counter]
        for counter in late
    }


async def _sums(
    budget: Budget, record: Record, since: float, where: Mapping[str, str], now: float
) -> Mapping[Counter, Amount]:
    found: defaultdict[Counter, Amount] = defaultdict(Amount)
    for call, amount in await record.totals(_needed(budget), since, where):
        whole = {**dict.fromkeys(DIMENSIONS, ""), **call}
        if budget.counts(whole):
            found[budget.counter(whole, now)] += amount
    return found


def _needed(budget: Budget) -> Sequence[str]:
    """The dimensions by which a budget tells calls apart."""
    named: Iterable[str] = (name for name, _ in budget.match)
    wanted = {*named, *budget.apart}
    return [name for name in DIMENSIONS if name in wanted]
