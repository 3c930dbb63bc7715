"""A circuit breaker: stop asking whom we know to be down."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from math import inf
from time import monotonic

from servers.domain.models import BreakerState


class Admission(IntEnum):
    """Whether, and as what, a call may go out. Only REFUSED is false."""

    REFUSED = 0
    CALL = 1
    PROBE = 2


@dataclass(slots=True)
class Breaker:
    """Opens after `limit` failures in a row, for `cooldown` seconds.

    A provider that says itself when to come back (Retry-After) opens it at once, for as
    long as it said. Then exactly one call is let through as a probe: its success closes
    the breaker, its failure opens it again. Calls that were under way when it opened
    decide nothing any more. `force_open` keeps it open until `reset`.
    """

    limit: int = 3
    cooldown: float = 60.0
    now: Callable[[], float] = monotonic
    failures: int = field(default=0, init=False)  # in a row
    forced: bool = field(default=False, init=False)
    _open_until: float | None = field(default=None, init=False)
    _probing: bool = field(default=False, init=False)

    def admit(self) -> Admission:
        """Whether a call may go out now. An admitted call must be reported back."""
        if self._open_until is None:
            return Admission.CALL
        if self._probing or self.remaining > 0.0:
            return Admission.REFUSED
        self._probing = True
        return Admission.PROBE

    @property
    def state(self) -> BreakerState:
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if self.remaining > 0.0 else BreakerState.HALF_OPEN

    @property
    def remaining(self) -> float:
        """Seconds until a probe may go out: 0 where one may, infinite where forced open."""
        if self._open_until is None:
            return 0.0
        return max(0.0, self._open_until - self.now())

    def succeeded(self, admission: Admission = Admission.CALL) -> None:
        if self._decides(admission):
            self.failures, self._open_until, self._probing = 0, None, False

    def failed(self, admission: Admission = Admission.CALL, pause: float = 0.0) -> None:
        """`pause` is how long the provider asked to be left alone, in seconds."""
        if not self._decides(admission):
            return
        self.failures += 1
        self._probing = False
        if pause > 0.0 or admission is Admission.PROBE or self.failures >= self.limit:
            self._open_until = self.now() + (pause or self.cooldown)

    def abandoned(self, admission: Admission = Admission.CALL) -> None:
        """The caller went away, or was wrong: neither a success nor a failure."""
        if admission is Admission.PROBE:
            self._probing = False

    def open_for(self, seconds: float) -> None:
        """Somebody else has found out that it is down."""
        if not self.forced:
            self.failures = max(self.failures, self.limit)
            self._probing, self._open_until = False, self.now() + seconds

    def force_open(self) -> None:
        self.forced, self._probing, self._open_until = True, False, inf

    def reset(self) -> None:
        """Close, and forget what was."""
        self.forced, self._probing, self._open_until, self.failures = False, False, None, 0

    def _decides(self, admission: Admission) -> bool:
        """While open, only the probe's outcome counts; while closed, every call's."""
        return not self.forced and (
            self._probing if admission is Admission.PROBE else self._open_until is None
        )
