"""What a router does without: budgets and a record of use, tokenizers, and other replicas."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from servers.domain.caller import Account
from servers.domain.chat import Notice, Usage
from servers.domain.usage import BudgetState, UsageQuery, UsageRow
from servers.router.ports import BreakerKey, Cost, Tokenizer


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


class NoTokenizers:
    """Satisfies `ports.Tokenizers`: every count is an estimate."""

    def of(self, model: str) -> Tokenizer | None:
        return None


class Alone:
    """Satisfies `ports.Board` for the only replica there is."""

    def opened(self, key: BreakerKey, seconds: float) -> None:
        pass

    def closed(self, key: BreakerKey) -> None:
        pass

    async def probe(self, key: BreakerKey, seconds: float) -> bool:
        return True

    async def listen(self, heard: Callable[[BreakerKey, float], None]) -> None:
        """There is nobody to be heard."""
