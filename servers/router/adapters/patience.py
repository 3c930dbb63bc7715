"""How long a provider is waited for, whatever protocol it speaks."""

import asyncio
from dataclasses import dataclass, field

from servers.router.ports import ProviderDown, Timeouts

_LINGER = 0.05  # seconds to wait for the end of a stream that said it is done


@dataclass(slots=True)
class Patience:
    """How long the current answer may still take."""

    timeouts: Timeouts
    _total: float = field(init=False)
    _next: float = field(init=False)
    _spoke: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        now = asyncio.get_running_loop().time()
        self._total = now + self.timeouts.total
        self._next = now + self.timeouts.first_token

    def progressed(self) -> None:
        """The model said something: from now on the shorter limit between tokens holds."""
        self._spoke = True
        self._next = asyncio.get_running_loop().time() + self.timeouts.between_tokens

    def lingering(self) -> None:
        """The answer is complete. Only the end of the body is wanted, to keep the connection."""
        self._next = asyncio.get_running_loop().time() + _LINGER

    def whole(self) -> asyncio.Timeout:
        return asyncio.timeout_at(self._total)

    def piece(self) -> asyncio.Timeout:
        return asyncio.timeout_at(min(self._total, self._next))

    def gone(self, endpoint: str, whole: bool = False) -> ProviderDown:
        limits = self.timeouts
        if whole or self._total <= self._next:
            what = f"no whole answer within {limits.total:g} s"
        elif self._spoke:
            what = f"no further token within {limits.between_tokens:g} s"
        else:
            what = f"no first token within {limits.first_token:g} s"
        return ProviderDown(f"{endpoint}: {what}", reason="PROVIDER_TIMEOUT")
