"""Spending without budgets and without a record: for routers that nobody keeps the books of."""

from collections.abc import Sequence
from dataclasses import dataclass

from servers.domain.caller import Account
from servers.domain.chat import Notice, Usage
from servers.domain.usage import BudgetState, UsageQuery, UsageRow
from servers.router.ports import Cost


@dataclass(frozen=True, slots=True)
class _Nothing:
    notices: tuple[Notice, ...] = ()

    async def settle(self, usage: Usage, operation: str, outcome: str = "ok") -> None:
        pass

    async def release(self) -> None:
        pass


_NOTHING = _Nothing()


class Untracked:
    """Satisfies `ports.Spending`."""

    async def reserve(self, account: Account, provider: str, model: str, most: Cost) -> _Nothing:
        return _NOTHING

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        return ()

    async def budgets(self, tenant: str, name: str = "") -> Sequence[BudgetState]:
        return ()
