"""How often a tool may be called. In process: each replica counts for itself."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, TypeAlias

from servers.kernel.errors import InvalidInput

Key: TypeAlias = tuple[str, str, str]  # tenant, agent, tool

_SWEEP_AT = 1024  # windows; beyond this the idle ones are forgotten


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most `max_calls` in any `window_seconds`."""

    max_calls: int
    window_seconds: float


def rate_limit_from(value: Any) -> RateLimit | None:
    """Read ``{"max_calls": 3, "window_seconds": 60}``. None means no limit."""
    if value is None:
        return None
    try:
        limit = RateLimit(int(value["max_calls"]), float(value["window_seconds"]))
    except (KeyError, TypeError, ValueError, OverflowError):
        raise _invalid(value) from None
    if limit.max_calls < 1 or not limit.window_seconds > 0:
        raise _invalid(value)
    return limit


@dataclass(slots=True)
class SlidingWindows:
    """The recent calls of every key. A refused call isn't counted."""

    now: Callable[[], float] = monotonic
    _calls: dict[Key, deque[float]] = field(default_factory=dict, init=False)
    _spans: dict[Key, float] = field(default_factory=dict, init=False)

    def admit(self, key: Key, limit: RateLimit) -> float:
        """0.0 and counted where the call may go out, else the seconds until one may."""
        now = self.now()
        if len(self._calls) >= _SWEEP_AT:
            self._sweep(now)
        calls = self._calls.setdefault(key, deque())
        self._spans[key] = limit.window_seconds
        while calls and calls[0] <= now - limit.window_seconds:
            calls.popleft()
        if len(calls) >= limit.max_calls:
            return calls[-limit.max_calls] + limit.window_seconds - now
        calls.append(now)
        return 0.0

    def _sweep(self, now: float) -> None:
        for key, calls in list(self._calls.items()):
            if not calls or calls[-1] <= now - self._spans[key]:
                del self._calls[key], self._spans[key]


def _invalid(value: Any) -> InvalidInput:
    return InvalidInput(
        f"rate_limit is {value!r}: it takes max_calls (at least 1) and window_seconds (above 0)",
        reason="RATE_LIMIT_INVALID",
    )
