"""Keeps the books of the router: what calls may use, and what they did. Satisfies
`ports.Spending`."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from servers.domain.caller import Account
from servers.domain.chat import Usage
from servers.domain.usage import BudgetState, UsageQuery, UsageRow
from servers.kernel import telemetry
from servers.kernel.errors import NotFound, Unavailable
from servers.kernel.explain import nearest
from servers.router.budgets import messages
from servers.router.budgets.amounts import Amount, asked
from servers.router.budgets.budget import Budget, Call, Claim, call_of
from servers.router.budgets.journal import Journal
from servers.router.budgets.ledger import Ledger, Reserved
from servers.router.budgets.records import Entry, Record, check
from servers.router.budgets.reservation import Reserving
from servers.router.budgets.sparing import Sparing
from servers.router.budgets.states import states
from servers.router.ports import Cost

_log = structlog.stdlib.get_logger("astromesh.budgets")


@dataclass(frozen=True, slots=True)
class Books:
    """`now` is the time of day: it says which window a call belongs to."""

    kept: Sequence[Budget]
    ledger: Ledger
    record: Record
    journal: Journal
    now: Callable[[], float]
    sparing: Sparing

    async def reserve(self, account: Account, provider: str, model: str, most: Cost) -> Reserving:
        at, call = self.now(), call_of(account, provider, model)
        begun = Entry(at, account, provider, model, "", "", Usage())
        claims = tuple(
            Claim(budget, budget.counter(call, at)) for budget in self.kept if budget.counts(call)
        )
        if not claims:
            return Reserving(begun, self.ledger, self.journal)
        _refuse_unpriced(claims, call, most)
        try:
            reserved = await self.ledger.reserve(claims, asked(most))
        except Unavailable as error:
            self._tell_away(error)
            if any(claim.budget.hard for claim in claims):
                raise
            missed = (messages.uncounted(claims),)
            return Reserving(begun, self.ledger, self.journal, notices=missed)
        if reserved.hold is None:
            raise self._refused(claims, reserved, asked(most), at)
        notices = tuple(messages.warnings(reserved))
        return Reserving(begun, self.ledger, self.journal, reserved.hold, notices)

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        check(query)
        await self.journal.on_disk()
        return await self.record.rows(query)

    async def budgets(self, tenant: str, name: str = "") -> Sequence[BudgetState]:
        counting = [budget for budget in self.kept if budget.counts_tenant(tenant)]
        wanted = [budget for budget in counting if name in ("", budget.name)]
        if name and not wanted:
            known = [budget.name for budget in counting]
            raise NotFound(f"no budget is named {name!r}{nearest(name, known)}", budget=name)
        at = self.now()
        return [state for each in wanted for state in await states(each, self.ledger, tenant, at)]

    def _refused(
        self, claims: Sequence[Claim], reserved: Reserved, need: Amount, at: float
    ) -> Exception:
        error = messages.exceeded(claims, reserved.standings, need, at)
        counters = {claim.budget.name: claim.counter for claim in claims}
        for violation in error.violations:
            telemetry.record(telemetry.REFUSALS, 1, {telemetry.BUDGET: violation.field})
            if times := self.sparing.times(counters[violation.field]):
                _log.warning(
                    "budget exceeded",
                    budget=violation.field,
                    detail=violation.description,
                    times=times,
                )
        return error

    def _tell_away(self, error: Unavailable) -> None:
        if times := self.sparing.times(error.reason):
            _log.error("budgets can't be counted", error=error.message, times=times)


def _refuse_unpriced(claims: Sequence[Claim], call: Call, most: Cost) -> None:
    if most.usd is not None:
        return
    for claim in claims:
        if claim.budget.hard and claim.budget.limit.nano is not None:
            raise messages.unpriced(claim, call)
