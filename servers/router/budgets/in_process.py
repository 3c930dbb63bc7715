"""Counters of one process, in its memory. Exact, as nothing waits between check and change."""

from collections import OrderedDict, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from servers.router.budgets.amounts import NOTHING, Amount
from servers.router.budgets.budget import Budget, Claim, Counter
from servers.router.budgets.ledger import LISTED, Hold, Reserved, Standing

RUNS = 10_000  # run counters of a budget that are remembered while nobody uses them
_GRACE = 3600  # seconds that an ended window is kept: clocks are set back at times

Spent = Callable[[Counter], Awaitable[Amount]]


@dataclass(slots=True)
class _Tally:
    spent: Amount
    reserved: Amount = NOTHING
    holds: int = 0

    @property
    def standing(self) -> Standing:
        return Standing(self.spent, self.reserved)


class InProcessLedger:
    """Satisfies `Ledger`. `spent` knows what a run has used that is not remembered here."""

    lasting = False

    def __init__(self, spent: Spent, most_runs: int = RUNS) -> None:
        self._spent, self._most_runs = spent, most_runs
        self._tallies: defaultdict[str, OrderedDict[Counter, _Tally]] = defaultdict(OrderedDict)

    def restore(self, counter: Counter, spent: Amount) -> None:
        """What was used before this process began."""
        self._tallies[counter.budget][counter] = _Tally(spent)

    async def reserve(self, claims: tuple[Claim, ...], amount: Amount) -> Reserved:
        known = await self._earlier(claims)
        # From here on nothing waits.
        tallies = [self._tally(claim.counter, known) for claim in claims]
        fits = all(
            claim.budget.limit.fits(tally.standing.taken + amount)
            for claim, tally in zip(claims, tallies, strict=True)
            if claim.budget.hard
        )
        if fits:
            for tally in tallies:
                tally.reserved += amount
                tally.holds += 1
        standings = tuple(tally.standing for tally in tallies)
        return Reserved(Hold("", claims, amount) if fits else None, standings)

    async def settle(self, hold: Hold, used: Amount) -> None:
        for claim in hold.claims:
            tally = self._tallies[claim.budget.name][claim.counter]
            tally.spent += used
            tally.reserved += Amount(-hold.amount.nano, -hold.amount.tokens)
            tally.holds -= 1

    async def standings(
        self, budget: Budget, tenant: str | None, starts_at: int
    ) -> Sequence[tuple[Counter, Standing]]:
        found = [
            (counter, tally.standing)
            for counter, tally in self._tallies[budget.name].items()
            if counter.starts_at == starts_at and counter.tenant == tenant
        ]
        return found[-LISTED:]

    async def _earlier(self, claims: Iterable[Claim]) -> dict[Counter, Amount]:
        """What runs have used that are not remembered."""
        known: dict[Counter, Amount] = {}
        runs = [claim.counter for claim in claims if claim.counter.ends_at is None]
        while missing := [each for each in runs if each not in known and not self._has(each)]:
            known[missing[0]] = await self._spent(missing[0])
        return known

    def _has(self, counter: Counter) -> bool:
        return counter in self._tallies[counter.budget]

    def _tally(self, counter: Counter, known: Mapping[Counter, Amount]) -> _Tally:
        tallies = self._tallies[counter.budget]
        tally = tallies.get(counter)
        if tally is None:
            tally = tallies[counter] = _Tally(known.get(counter, NOTHING))
            self._forget(tallies, counter)
        else:
            tallies.move_to_end(counter)
        return tally

    def _forget(self, tallies: OrderedDict[Counter, _Tally], newest: Counter) -> None:
        """Windows that have ended, and the runs that were used longest ago."""
        while (oldest := next(iter(tallies))) != newest:
            if oldest.ends_at is None:
                over = len(tallies) > self._most_runs
            else:
                over = oldest.ends_at + _GRACE <= newest.starts_at
            if not over or tallies[oldest].holds:
                return
            del tallies[oldest]
