"""What the process has learnt about each (provider, endpoint, model): one lane for all agents."""

from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import isinf
from time import monotonic

from servers.domain.models import BreakerInfo, BreakerState
from servers.router.lanes.breaker import Breaker
from servers.router.lanes.limits import Gate
from servers.router.ports import BreakerKey, Limits

OLD, NEW = 0.8, 0.2  # weights of the moving average
RECENT = 100  # times to the first piece that are remembered
_ENOUGH = 5  # of them, to say what is usual


@dataclass(slots=True)
class Lane:
    breaker: Breaker
    latency: float | None = None  # seconds, moving average of whole calls
    first_token: float | None = None  # the same of the time to the first piece
    firsts: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))  # the last of those
    trouble: str | None = None  # why the last call failed; "" where it went well; None: no call yet

    def took(self, seconds: float) -> None:
        self.latency = _average(self.latency, seconds)

    def spoke_after(self, seconds: float) -> None:
        self.first_token = _average(self.first_token, seconds)
        self.firsts.append(seconds)

    def usually_speaks_within(self, share: float) -> float | None:
        """Seconds in which that share of the last answers began; None where too few are known."""
        if len(self.firsts) < _ENOUGH:
            return None
        return sorted(self.firsts)[min(len(self.firsts) - 1, int(len(self.firsts) * share))]

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
    _lanes: OrderedDict[BreakerKey, Lane] = field(default_factory=OrderedDict, init=False)
    _gates: dict[str, Gate] = field(default_factory=dict, init=False)  # as many as providers

    def lane(self, key: BreakerKey) -> Lane:
        lane = self._lanes.get(key)
        if lane is None:
            self._make_room()
            lane = self._lanes[key] = Lane(
                Breaker(self.failure_threshold, self.recovery_timeout, self.now)
            )
        else:
            self._lanes.move_to_end(key)
        return lane

    def gate(self, provider: str, limits: Limits) -> Gate:
        """One for each provider, whatever model is asked."""
        gate = self._gates.get(provider)
        if gate is None:
            gate = self._gates[provider] = Gate(provider, limits, self.now)
        return gate

    def of(self, provider: str) -> Iterator[tuple[BreakerKey, Lane]]:
        return ((key, lane) for key, lane in self._lanes.items() if key[0] == provider)

    def all(self) -> Iterator[tuple[BreakerKey, Lane]]:
        return iter(self._lanes.items())

    def _make_room(self) -> None:
        if len(self._lanes) >= self.most:
            oldest = next((key for key, lane in self._lanes.items() if lane.idle), None)
            if oldest is not None:
                del self._lanes[oldest]


def breaker_info(key: BreakerKey, breaker: Breaker) -> BreakerInfo:
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


def _average(before: float | None, seconds: float) -> float:
    return seconds if before is None else OLD * before + NEW * seconds
