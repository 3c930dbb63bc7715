"""One attempt at one candidate: what it takes, and what becomes of it, whatever way it ends."""

from asyncio import CancelledError
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

import structlog

from servers.domain.chat import ModelUsage, Notice, Usage
from servers.domain.models import BreakerState
from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError, Interrupted
from servers.router.attempts.untracked import Alone
from servers.router.lanes.breaker import Admission
from servers.router.lanes.limits import Place
from servers.router.ports import Board, ProviderBusy, ProviderDown, Reservation
from servers.router.routing.candidates import Candidate
from servers.router.routing.trail import Trail

_log = structlog.stdlib.get_logger("astromesh.router")


@dataclass(slots=True)
class Attempt:
    """Holds a place, a breaker's admission and a reservation, and gives each back as it should.

    Swallows ProviderDown as long as nothing was said: then somebody else may answer.
    After the first piece it becomes Interrupted, because another voice would contradict.
    """

    candidate: Candidate
    admission: Admission
    place: Place
    reservation: Reservation
    trail: Trail
    now: Callable[[], float]
    operation: str = "chat"
    reads: int = 0  # tokens of the prompt, as estimated
    board: Board = field(default_factory=Alone)
    pieces: int = 0  # that were heard
    lost: bool = False  # another one began to answer first
    used: Usage | None = None  # what it cost, once that is known
    began: float = 0.0

    def heard(self) -> None:
        """Another piece of the answer."""
        self.pieces += 1
        if self.pieces == 1:
            waited = self.now() - self.began
            self.candidate.lane.spoke_after(waited)
            if telemetry.counting():
                telemetry.record(telemetry.FIRST_CHUNK, waited, self._attributes())

    def answered(self, usage: Usage) -> Usage:
        """The whole answer is there. Returns what it used, with its price."""
        self.used = self.candidate.priced(usage)
        return self.used

    @property
    def notices(self) -> tuple[Notice, ...]:
        return self.reservation.notices

    @property
    def wasted(self) -> ModelUsage:
        """What was used by one that lost, as far as that can be known."""
        target = self.candidate.target
        return ModelUsage(target.provider, target.model, 1, self._seen())

    async def abandon(self) -> None:
        """It is not begun after all."""
        self.place.leave(0)
        await self._undone()

    async def __aenter__(self) -> "Attempt":
        self.began = self.now()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> bool:
        before = self.candidate.lane.breaker.state
        try:
            match error:
                case None:
                    await self._went_well()
                case ProviderBusy() if not self.pieces:
                    await self._undone()
                    self.trail.busy(self.candidate.target, error)
                    return True
                case ProviderDown():
                    return await self._down(error)
                case CancelledError() | GeneratorExit():  # the caller left; nobody failed
                    await self._left()
                case AstromeshError():
                    error.facts.setdefault("provider", self.candidate.target.provider)
                    error.facts.setdefault("model", self.candidate.target.model)
                    await self._undone()
                case _:
                    await self._undone()
        finally:
            used = self.used or Usage()
            self.place.leave(used.prompt_tokens + used.completion_tokens)
            self._tell(before)
        return False

    async def _went_well(self) -> None:
        lane = self.candidate.lane
        lane.breaker.succeeded(self.admission)
        lane.took(self.now() - self.began)
        lane.trouble = ""
        await self.reservation.settle(self.used or Usage(), self.operation)

    async def _left(self) -> None:
        self.candidate.lane.breaker.abandoned(self.admission)
        if self.lost or self.pieces:
            self.used = self._seen()
            outcome = "hedged" if self.lost else "cut_off"
            await self.reservation.settle(self.used, self.operation, outcome)
        else:
            await self.reservation.release()

    async def _undone(self) -> None:
        self.candidate.lane.breaker.abandoned(self.admission)
        await self.reservation.release()

    async def _down(self, error: ProviderDown) -> bool:
        lane, target = self.candidate.lane, self.candidate.target
        lane.breaker.failed(self.admission, error.pause)
        lane.trouble = error.message
        if not self.pieces:
            await self.reservation.release()
            self.trail.failed(target, lane.breaker.remaining, error)
            return True
        self.used = self._seen()
        await self.reservation.settle(self.used, self.operation, "cut_off")
        raise Interrupted(
            f"{target.provider}/{target.model} broke off in the middle of its answer: "
            f"{error.message}",
            reason="STREAM_INTERRUPTED",
            provider=target.provider,
            model=target.model,
            cause=error.reason,
        ) from error

    def _seen(self) -> Usage:
        """What a call has used that did not come to its end: the provider never said."""
        return self.candidate.priced(Usage(self.reads, self.pieces, estimated=True))

    def _tell(self, before: BreakerState) -> None:
        breaker, target = self.candidate.lane.breaker, self.candidate.target
        if breaker.state is not before:
            if breaker.state is BreakerState.OPEN:
                self.board.opened(target.key, breaker.remaining)
            elif breaker.state is BreakerState.CLOSED:
                self.board.closed(target.key)
            _log.info(
                "breaker",
                provider=target.provider,
                model=target.model,
                state=breaker.state.value,
                failures=breaker.failures,
            )

    def _attributes(self) -> dict[str, telemetry.Attribute]:
        target = self.candidate.target
        return {
            telemetry.OPERATION: self.operation,
            telemetry.PROVIDER: target.provider,
            telemetry.MODEL: target.model,
        }
