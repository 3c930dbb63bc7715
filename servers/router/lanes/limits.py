"""How much a provider is asked at once and in a minute: places, and who waits for one.

Counts only what this process asks. A provider's own refusals (429) are the breakers' business.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from time import monotonic

from servers.router.ports import Limits, ProviderBusy

_MINUTE = 60.0  # seconds


@dataclass(slots=True)
class Bucket:
    """So much a minute, evenly refilled; the first minute's worth may be had at once.

    What turns out to have been used beyond what was taken makes those wait who come later.
    """

    capacity: float
    now: Callable[[], float]
    _level: float = field(init=False)
    _at: float = field(init=False)

    def __post_init__(self) -> None:
        self._level, self._at = self.capacity, self.now()

    def pause(self, amount: float) -> float:
        """Seconds until `amount` is there. More than fits ever is had from a full bucket."""
        self._refill()
        missing = min(amount, self.capacity) - self._level
        return max(0.0, missing * _MINUTE / self.capacity)

    def take(self, amount: float) -> None:
        self._refill()
        self._level -= amount

    def give_back(self, amount: float) -> None:
        self._level = min(self.capacity, self._level + amount)

    def _refill(self) -> None:
        now = self.now()
        self._level = min(self.capacity, self._level + (now - self._at) * self.capacity / _MINUTE)
        self._at = now


@dataclass(slots=True)
class Place:
    """A call that is let in. It must leave, once."""

    gate: "Gate"
    tokens: int  # that were taken for it

    def leave(self, used: int | None = None) -> None:
        """`used` tokens, where that is known."""
        self.gate._left(self.tokens, self.tokens if used is None else used)


class Gate:
    """The limits of one provider. Without any it only counts."""

    def __init__(self, provider: str, limits: Limits, now: Callable[[], float] = monotonic) -> None:
        self._provider, self._limits = provider, limits
        self._most = limits.concurrency or inf
        self._requests = _bucket(limits.requests_per_minute, now)
        self._tokens = _bucket(limits.tokens_per_minute, now)
        self._queue: deque[asyncio.Event] = deque()
        self.active = 0

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def counts_tokens(self) -> bool:
        return self._tokens is not None

    def enter(self, tokens: int = 0) -> Place | None:
        """A place that is free now; None where one must wait, or others do already."""
        return None if self._queue or self._pause(tokens) > 0 else self._in(tokens)

    async def wait(self, tokens: int = 0) -> Place:
        """A place as soon as it is this caller's turn. Raises ProviderBusy."""
        if len(self._queue) >= self._limits.max_waiting:
            raise self._busy(f"{len(self._queue)} calls wait for it already", tokens)
        turn = asyncio.Event()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(self._limits.max_wait):
                while self._queue[0] is not turn or self._pause(tokens) > 0:
                    await self._change(turn, tokens)
            return self._in(tokens)
        except TimeoutError:
            raise self._busy(f"no place within {self._limits.max_wait:g} s", tokens) from None
        finally:
            self._queue.remove(turn)
            self._next()

    async def _change(self, turn: asyncio.Event, tokens: int) -> None:
        """Until somebody leaves, or the minute's allowance has grown enough for the first one."""
        pause = self._pause(tokens) if self._queue[0] is turn else inf
        with suppress(TimeoutError):
            async with asyncio.timeout(None if pause == inf else pause):
                await turn.wait()
        turn.clear()

    def _pause(self, tokens: int) -> float:
        """Seconds until there is a place; infinite where somebody must leave first."""
        if self.active >= self._most:
            return inf
        return max(
            self._requests.pause(1) if self._requests else 0.0,
            self._tokens.pause(tokens) if self._tokens else 0.0,
        )

    def _in(self, tokens: int) -> Place:
        self.active += 1
        if self._requests:
            self._requests.take(1)
        if self._tokens:
            self._tokens.take(tokens)
        return Place(self, tokens)

    def _left(self, taken: int, used: int) -> None:
        self.active -= 1
        if self._tokens:
            self._tokens.give_back(taken - used)
        self._next()

    def _next(self) -> None:
        if self._queue:
            self._queue[0].set()

    def _busy(self, why: str, tokens: int) -> ProviderBusy:
        pause = self._pause(tokens)
        return ProviderBusy(
            f"{self._provider} is at its limits: {why}",
            pause=1.0 if pause in (0.0, inf) else pause,
        )


def _bucket(per_minute: int | None, now: Callable[[], float]) -> Bucket | None:
    return Bucket(per_minute, now) if per_minute else None
