"""Money and tokens as whole numbers, so that sums are exact."""

from dataclasses import dataclass
from typing import Final

from servers.domain.chat import Usage
from servers.router.ports import Cost

NANO: Final = 1_000_000_000  # of them make a US dollar
# No call and no limit is beyond it, and the sum of a few is exact in a double, which is what
# Redis' scripts compute with. A provider that counts nonsense must not overflow a counter.
MOST: Final = 10**15


@dataclass(frozen=True, slots=True)
class Amount:
    nano: int = 0  # billionths of a US dollar
    tokens: int = 0

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(self.nano + other.nano, self.tokens + other.tokens)


NOTHING: Final = Amount()


def nano(usd: float) -> int:
    return _bounded(round(usd * NANO))


def asked(most: Cost) -> Amount:
    """What a call may use. A price that is unknown counts as nothing here."""
    return Amount(0 if most.usd is None else nano(most.usd), _bounded(most.tokens))


def used(usage: Usage) -> Amount:
    cost = 0 if usage.cost_usd is None else nano(usage.cost_usd)
    return Amount(cost, tokens(usage))


def tokens(usage: Usage) -> int:
    return _bounded(usage.prompt_tokens) + _bounded(usage.completion_tokens)


def dollars(amount: int) -> str:
    """Nano-dollars for people: "0.0213 USD"."""
    text = f"{amount / NANO:.9f}".rstrip("0").rstrip(".")
    return f"{text} USD"


def _bounded(amount: int) -> int:
    return min(max(amount, 0), MOST)
