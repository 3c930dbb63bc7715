"""What the process has learnt about each (provider, endpoint, model): one lane for all agents."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isinf
from time import monotonic

from servers.domain.models import BreakerInfo, BreakerState
from servers.router.breaker import Breaker

Key = tuple[str, str, str]  # provider, endpoint, model

OLD, NEW = 0.8, 0.2  # weights of the moving average


@dataclass(slots=True)
class Lane:
    breaker: Breaker
    latency: float | None = None  # seconds, moving average of whole calls
    trouble: str | None = None  # why the last call failed; "" where it went well; None: no call yet

    def took(self, seconds: float) -> None:
        self.latency = seconds if self.latency is None else OLD * self.latency + NEW * seconds

    @property
    def idle(self) -> bool:
        """Whether nothing is lost by forgetting this lane's breaker."""
        return self.breaker.state is BreakerState.CLOSED and self.breaker.failures == 0


@dataclass(slots=True)
class Lanes:
    """All lanes, the least recently used first. Endpoints may come from requests, so that
    lanes beyond `most` are forgotten, unless their breaker remembers failures."""

    failure_threshold: int = 3
    recovery_timeout: float = 60.0
    now: Callable[[], float] = monotonic
    most: int = 4096
    health: dict[str, tuple[bool, str]] = field(default_factory=dict)  # of probed providers
    _lanes: OrderedDict[Key, Lane] = field(default_factory=OrderedDict, init=False)

    def lane(self, key: Key) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            self._make_room()
            lane = self._lanes[key] = Lane(
                Breaker(self.failure_threshold, self.recovery_timeout, self.now)
            )
        else:
            self._lanes.move_to_end(key)
        return lane

    def of(self, provider: str) -> Iterator[tuple[Key, Lane]]:
        return ((key, lane) for key, lane in self._lanes.items() if key[0] == provider)

    def all(self) -> Iterator[tuple[Key, Lane]]:
        return iter(self._lanes.items())

    def _make_room(self) -> None:
        if len(self._lanes) >= self.most:
            oldest = next((key for key, lane in self._lanes.items() if lane.idle), None)
            if oldest is not None:
                del self._lanes[oldest]


def breaker_info(key: Key, breaker: Breaker) -> BreakerInfo:
    provider, endpoint, model = key
    remaining = breaker.remaining
    return BreakerInfo(
        provider=provider,
        model=model,
        endpoint=endpoint,
        state=breaker.state,
        failures=breaker.failures,
        retry_after=0.0 if isinf(remaining) else remaining,
        forced=breaker.forced,
    )
