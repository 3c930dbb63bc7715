"""Counters in memory: what is over is forgotten, and what is held never is."""

from servers.domain.usage import Window
from servers.router.budgets.amounts import Amount
from servers.router.budgets.budget import Budget, Claim, Limit, call_of
from servers.router.budgets.in_process import InProcessLedger
from tests.contract.spending_fixture import ANYBODY, NOON

ONE = Amount(0, 1)
DAY = 86400


class Kept(InProcessLedger):
    """Knows which runs it had to look up."""

    def __init__(self, most_runs: int = 1000) -> None:
        self.looked_up = []
        super().__init__(self._look_up, most_runs)

    async def _look_up(self, counter):
        self.looked_up.append(dict(counter.group)["run"])
        return Amount(0, 7)

    def remembered(self, budget: Budget) -> int:
        return len(self._tallies[budget.name])


def claim(budget: Budget, at: float = NOON, **account: str) -> tuple[Claim, ...]:
    call = call_of(ANYBODY, "p", "m") | account
    return (Claim(budget, budget.counter(call, at)),)


async def spend(ledger, claims) -> None:
    await ledger.settle((await ledger.reserve(claims, ONE)).hold, ONE)


RUNS = Budget("runs", Limit(tokens=1000), Window.RUN, apart=("run",))
DAYS = Budget("days", Limit(tokens=1000), Window.DAY, apart=("session",))


class TestRuns:
    async def test_are_looked_up_once(self):
        ledger = Kept()
        for _ in range(3):
            await spend(ledger, claim(RUNS))
        assert ledger.looked_up == ["r-1"]
        ((_, standing),) = await ledger.standings(RUNS, None, 0)
        assert standing.spent == Amount(0, 10)

    async def test_that_were_used_longest_ago_are_forgotten(self):
        ledger = Kept(most_runs=3)
        for run in ("a", "b", "c", "a", "d", "b"):
            await spend(ledger, claim(RUNS, run=run))
        assert ledger.remembered(RUNS) == 3
        assert ledger.looked_up == ["a", "b", "c", "d", "b"]

    async def test_that_are_at_work_are_not_forgotten(self):
        ledger = Kept(most_runs=3)
        held = await ledger.reserve(claim(RUNS, run="held"), ONE)
        for number in range(10):
            await spend(ledger, claim(RUNS, run=str(number)))
        await ledger.settle(held.hold, ONE)
        assert "held" not in ledger.looked_up[1:]


class TestWindows:
    async def test_that_are_over_are_forgotten(self):
        ledger = Kept()
        for day in range(5):
            for session in "abc":
                await spend(ledger, claim(DAYS, NOON + day * DAY, session=session))
        assert ledger.remembered(DAYS) <= 6

    async def test_that_are_over_are_kept_as_long_as_a_call_of_theirs_is_at_work(self):
        ledger = Kept()
        held = await ledger.reserve(claim(DAYS), ONE)
        for day in range(1, 5):
            await spend(ledger, claim(DAYS, NOON + day * DAY))
        await ledger.settle(held.hold, ONE)
        for day in range(5, 8):
            await spend(ledger, claim(DAYS, NOON + day * DAY))
        assert ledger.remembered(DAYS) <= 2
