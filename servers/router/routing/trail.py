"""What was tried for one request, so that the last word explains all of it."""

from dataclasses import dataclass, field
from math import isinf

from servers.kernel.errors import AstromeshError, NotReady, Unavailable
from servers.router.ports import ProviderDown
from servers.router.routing.targets import Target

SOON = 1.0  # seconds; what to wait where no breaker says

_CLASSES = {
    "PROVIDER_UNREACHABLE": "connection",
    "PROVIDER_TIMEOUT": "timeout",
    "RATE_LIMITED": "rate_limit",
}


@dataclass(slots=True)
class Trail:
    tried: list[str] = field(default_factory=list)
    unable: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    last: tuple[Target, str] | None = None  # who failed, and why
    refused: AstromeshError | None = None  # by a budget
    classes: set[str] = field(default_factory=set)  # of the failures of this round

    def cannot(self, target: Target, missing: tuple[str, ...]) -> None:
        self.unable.append(f"{_name(target)} has no {', no '.join(missing)}")

    def shut(self, target: Target, wait: float) -> None:
        self.waits.append(wait)
        until = "until it is closed by hand" if isinf(wait) else f"for {wait:.0f} s"
        self.tried.append(f"{_name(target)} is left alone {until}")

    def failed(self, target: Target, wait: float, error: ProviderDown) -> None:
        self.last = target, error.reason
        self.waits.append(wait)
        self.tried.append(f"{_name(target)}: {error.message}")
        self.classes.add(error_class(error))

    def busy(self, target: Target, error: ProviderDown) -> None:
        self.last = target, error.reason
        self.waits.append(error.pause)
        self.tried.append(error.message)

    def unpaid(self, target: Target, error: AstromeshError) -> None:
        # Where it was raised holds on to this trail.
        self.refused = self.refused or error.with_traceback(None)
        self.unable.append(f"{_name(target)}: {error.message}")

    def again(self) -> None:
        """Another round: what is said at the end is said of that."""
        self.tried, self.waits, self.classes = [], [], set()

    @property
    def wait(self) -> float:
        """Seconds until the first of them may be asked again."""
        return min(self.waits, default=0.0)

    def end(self) -> AstromeshError:
        """Why nobody answered."""
        if not self.tried:
            return self.refused or NotReady(
                "no candidate can do what the request needs: " + "; ".join(self.unable),
                reason="MODEL_CANNOT",
            )
        ended = Unavailable(
            "no model can answer: " + "; ".join(self.tried + self.unable),
            reason="NO_PROVIDER_LEFT",
            retry_after=None if isinf(self.wait) else self.wait or SOON,
        )
        if self.last:
            target, reason = self.last
            ended.facts |= {
                "provider": target.provider,
                "model": target.model,
                "cause": reason,
            }
        return ended


def error_class(error: ProviderDown) -> str:
    """What kind of failure it is, for retries: connection, timeout, rate_limit, server_error."""
    return _CLASSES.get(error.reason, "server_error")


def _name(target: Target) -> str:
    return f"{target.provider}/{target.model}"
