"""One attempt at one candidate, and the trail of those that failed before it."""

from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass, field
from math import isinf
from types import TracebackType

from servers.kernel.errors import AstromeshError, Interrupted, NotReady, Unavailable
from servers.router.breaker import Admission
from servers.router.lanes import Lane
from servers.router.ports import ProviderDown
from servers.router.targets import Target

SOON = 1.0  # seconds; what to wait where no breaker says


@dataclass(slots=True)
class Trail:
    """What was tried for one request, so that the last word explains all of it."""

    tried: list[str] = field(default_factory=list)
    unable: list[str] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)
    last: tuple[Target, ProviderDown] | None = None

    def cannot(self, target: Target, missing: tuple[str, ...]) -> None:
        self.unable.append(f"{_name(target)} has no {', no '.join(missing)}")

    def shut(self, target: Target, lane: Lane) -> None:
        wait = lane.breaker.remaining
        self.waits.append(wait)
        until = "until it is closed by hand" if isinf(wait) else f"for {wait:.0f} s"
        self.tried.append(f"{_name(target)} is left alone {until}")

    def failed(self, target: Target, lane: Lane, error: ProviderDown) -> None:
        self.last = target, error
        self.waits.append(lane.breaker.remaining)
        self.tried.append(f"{_name(target)}: {error.message}")

    def end(self) -> AstromeshError:
        """Why nobody answered."""
        if not self.tried:
            return NotReady(
                "no candidate can do what the request needs: " + "; ".join(self.unable),
                reason="MODEL_CANNOT",
            )
        wait = min(self.waits)
        ended = Unavailable(
            "no model can answer: " + "; ".join(self.tried + self.unable),
            reason="NO_PROVIDER_LEFT",
            retry_after=None if isinf(wait) else wait or SOON,
        )
        if self.last:
            target, error = self.last
            ended.facts |= {
                "provider": target.provider,
                "model": target.model,
                "cause": error.reason,
            }
        return ended


@dataclass(slots=True)
class Attempt:
    """Reports how a call went to its lane, whatever way it ends.

    Swallows ProviderDown as long as nothing was said: then somebody else may answer.
    After the first piece it becomes Interrupted, because another voice would contradict.
    """

    target: Target
    lane: Lane
    admission: Admission
    trail: Trail
    now: Callable[[], float]
    spoke: bool = False
    _began: float = 0.0

    def __enter__(self) -> "Attempt":
        self._began = self.now()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        match error:
            case None:
                self.lane.breaker.succeeded(self.admission)
                self.lane.took(self.now() - self._began)
                self.lane.trouble = ""
            case ProviderDown():
                return self._down(error)
            case CancelledError() | GeneratorExit():  # the caller left; nobody failed
                self.lane.breaker.abandoned(self.admission)
            case AstromeshError():
                self.lane.breaker.abandoned(self.admission)
                error.facts.setdefault("provider", self.target.provider)
                error.facts.setdefault("model", self.target.model)
            case _:
                self.lane.breaker.abandoned(self.admission)
        return False

    def _down(self, error: ProviderDown) -> bool:
        self.lane.breaker.failed(self.admission, error.pause)
        self.lane.trouble = error.message
        if self.spoke:
            raise Interrupted(
                f"{_name(self.target)} broke off in the middle of its answer: {error.message}",
                reason="STREAM_INTERRUPTED",
                provider=self.target.provider,
                model=self.target.model,
                cause=error.reason,
            ) from error
        self.trail.failed(self.target, self.lane, error)
        return True


def _name(target: Target) -> str:
    return f"{target.provider}/{target.model}"
