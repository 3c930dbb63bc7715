"""Whom to try next: places, breakers and budgets, retries of whole rounds, one deadline.

There is no deadline of its own over all attempts: the caller's (a cancelled call, an expired
grpc deadline) ends whatever attempt is running; each attempt has its provider's.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from servers.domain.caller import Account
from servers.kernel.errors import Exhausted, NotReady
from servers.router.attempts.attempt import Attempt
from servers.router.lanes.breaker import Admission
from servers.router.lanes.limits import Place
from servers.router.ports import Board, ProviderBusy, Retries, Spending
from servers.router.routing.candidates import Candidate
from servers.router.routing.trail import SOON, Trail


@dataclass(frozen=True, slots=True)
class Work:
    """What a call is about to use, and who pays."""

    operation: str  # chat, embed, rerank
    account: Account
    reads: int  # tokens, at most
    writes: Callable[[Candidate], int]  # tokens, at most


@dataclass(frozen=True, slots=True)
class Trying:
    spending: Spending
    retries: Retries
    now: Callable[[], float]
    random: Callable[[], float]  # 0 to 1
    board: Board

    async def attempts(
        self, candidates: Sequence[Candidate], work: Work, trail: Trail
    ) -> AsyncGenerator[Attempt, None]:
        """One attempt after the other, for as long as somebody asks for the next."""
        for retry in range(self.retries.max_retries + 1):
            if retry and not await self._another_round(retry, trail):
                return
            async with aclosing(self._round(candidates, work, trail)) as round:
                async for attempt in round:
                    yield attempt

    async def _another_round(self, retry: int, trail: Trail) -> bool:
        """Whether it may help to ask all of them again; waits before it says yes."""
        if not trail.classes & self.retries.on:
            return False
        most = min(self.retries.max_delay, self.retries.base_delay * 2 ** (retry - 1))
        wait = max(most * self.random(), trail.wait)
        if wait > self.retries.max_delay:  # nobody lets a call through so soon
            return False
        trail.again()
        await asyncio.sleep(wait)
        return True

    async def _round(
        self, candidates: Sequence[Candidate], work: Work, trail: Trail
    ) -> AsyncGenerator[Attempt, None]:
        """Those that have a place now come first; only then is it worth to wait for one."""
        full = []
        for candidate in candidates:
            if (place := candidate.gate.enter(self._tokens(candidate, work))) is None:
                full.append(candidate)
            elif attempt := await self._admit(candidate, place, work, trail):
                yield attempt
        for candidate in full:
            try:
                place = await candidate.gate.wait(self._tokens(candidate, work))
            except ProviderBusy as busy:
                trail.busy(candidate.target, busy)
                continue
            if attempt := await self._admit(candidate, place, work, trail):
                yield attempt

    async def _admit(
        self, candidate: Candidate, place: Place, work: Work, trail: Trail
    ) -> Attempt | None:
        """What it takes to ask: breaker and budget. What was taken is given back where not."""
        breaker, target = candidate.lane.breaker, candidate.target
        admission = await self._admission(candidate)
        if not admission:
            place.leave(0)
            trail.shut(target, breaker.remaining or SOON)
            return None
        most = candidate.most(work.reads, work.writes(candidate))
        try:
            reserved = await self.spending.reserve(
                work.account, target.provider, target.model, most
            )
        except BaseException as error:
            breaker.abandoned(admission)
            place.leave(0)
            if not isinstance(error, Exhausted | NotReady):
                raise
            trail.unpaid(target, error)
            return None
        return Attempt(
            candidate,
            admission,
            place,
            reserved,
            trail,
            self.now,
            work.operation,
            work.reads,
            self.board,
        )

    async def _admission(self, candidate: Candidate) -> Admission:
        """Of all replicas one sends the probe."""
        breaker, target = candidate.lane.breaker, candidate.target
        admission = breaker.admit()
        if admission is not Admission.PROBE:
            return admission
        try:
            mine = await self.board.probe(target.key, target.timeouts.first_token)
        except BaseException:
            breaker.abandoned(admission)
            raise
        if not mine:
            breaker.abandoned(admission)
        return admission if mine else Admission.REFUSED

    def _tokens(self, candidate: Candidate, work: Work) -> int:
        """What a limit of tokens a minute is asked for; others need no count."""
        return work.reads + work.writes(candidate) if candidate.gate.counts_tokens else 0
