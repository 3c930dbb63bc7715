"""The race of two candidates where the first one is slow to begin (hedging)."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from servers.domain.chat import Finish, ModelUsage, Step
from servers.router.attempts.attempt import Attempt
from servers.router.chats.speaking import Voice
from servers.router.ports import Hedging

T = TypeVar("T")


@dataclass(slots=True)
class Race:
    """Asks the next candidate, too, when one is slower to begin than it usually is. Who begins
    first goes on, the other is left; what it used is added to the Finish. Who fails before is
    followed by the next, as without a race."""

    attempts: AsyncGenerator[Attempt, None]
    speak: Callable[[Attempt], Voice]
    hedging: Hedging
    _running: dict[asyncio.Task[Step | None], tuple[Attempt, Voice]] = field(default_factory=dict)
    _asking: asyncio.Task[Attempt | None] | None = None  # for the next one
    _hedged: bool = False
    _exhausted: bool = False

    async def run(self) -> Voice:
        try:
            won = await self._first()
            if won is None:
                return
            step, voice = won
            async with aclosing(voice):
                besides = await self._leave_others()
                yield _with(step, besides)
                async for step in voice:
                    yield _with(step, besides)
        finally:
            await self._leave_others()

    async def _first(self) -> tuple[Step, Voice] | None:
        """The first step that anybody says; None where everybody failed."""
        self._ask()
        while waits := {*self._running, *((self._asking,) if self._asking else ())}:
            done, _ = await asyncio.wait(
                waits, timeout=self._patience(), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                self._hedged = True
                self._ask()
            if self._asking in done:
                self._begin()
            for task in [task for task in self._running if task in done]:
                _, voice = self._running.pop(task)
                if (step := task.result()) is not None:
                    return step, voice
                self._ask()
        return None

    def _ask(self) -> None:
        if self._asking is None and not self._exhausted:
            self._asking = asyncio.create_task(_next(self.attempts))

    def _begin(self) -> None:
        assert self._asking is not None
        asked, self._asking = self._asking, None
        attempt = asked.result()
        if attempt is None:
            self._exhausted = True
            return
        voice = self.speak(attempt)
        self._running[asyncio.create_task(_next(voice))] = attempt, voice

    def _patience(self) -> float | None:
        """How long to wait before another one is asked. None: as long as it takes."""
        if self._hedged or self._exhausted or self._asking or len(self._running) != 1:
            return None
        ((attempt, _),) = self._running.values()
        usual = attempt.candidate.lane.usually_speaks_within(self.hedging.percentile)
        least = self.hedging.min_delay
        return 10 * least if usual is None else max(least, usual)

    async def _leave_others(self) -> tuple[ModelUsage, ...]:
        if self._asking is not None:
            await _ended(self._asking)
            if attempt := _given(self._asking):  # nobody wants it any more
                await attempt.abandon()
            self._asking = None
        besides = []
        while self._running:
            task, (attempt, voice) = self._running.popitem()
            attempt.lost = True
            await _ended(task)
            await voice.aclose()
            besides.append(attempt.wasted)
        return tuple(besides)


async def _next(items: AsyncGenerator[T, None]) -> T | None:
    return await anext(items, None)


async def _ended(task: asyncio.Task[Any]) -> None:
    """Cancel it and wait; how it ended is of no interest."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()  # looked at: else asyncio complains


def _given(asked: asyncio.Task[Attempt | None]) -> Attempt | None:
    return None if asked.cancelled() or asked.exception() else asked.result()


def _with(step: Step, besides: tuple[ModelUsage, ...]) -> Step:
    if besides and type(step) is Finish:
        return replace(step, besides=(*step.besides, *besides))
    return step
