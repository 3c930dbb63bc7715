"""Answers without asking: an earlier one to the very same request, for callers who say that it
will do. Kept in this process; requests of different tenants or keys never share one."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import inf
from time import monotonic

from servers.domain.chat import ChatRequest, Completion, FinishReason, Step, Usage
from servers.domain.services import Router
from servers.kernel.errors import InvalidInput, Violation
from servers.router.chats.gathering import Gathering, steps_of
from servers.router.wrappers.answers import Answers, Key, key_of
from servers.router.wrappers.passing import PassingRouter

_WHOLE = (FinishReason.STOP, FinishReason.TOOL_CALLS)


@dataclass(slots=True)
class _Flight:
    """A call on its way, for those who wait for the same answer."""

    landed: asyncio.Event = field(default_factory=asyncio.Event)
    answer: Completion | None = None  # None: it failed, or its caller left
    whole: bool = False  # whether the answer is one to keep


class CachingRouter(PassingRouter):
    """For requests with a `cache_ttl`; others pass as they are.

    Of equal requests at the same time one is asked, and the others wait for its answer. Where
    it fails or its caller leaves, the next one is asked.
    """

    def __init__(
        self,
        router: Router,
        answers: Answers | None = None,
        *,
        now: Callable[[], float] = monotonic,
        patience: float = 60.0,
    ) -> None:
        """`patience`: seconds to wait for somebody else's call, whose reader may be slow."""
        super().__init__(router)
        self._answers = answers or Answers()
        self._now = now
        self._patience = patience
        self._flights: dict[Key, _Flight] = {}

    async def complete(self, request: ChatRequest) -> Completion:
        if (key := _key(request)) is None:
            return await self._router.complete(request)
        if found := await self._found(key, request.cache_ttl):
            return found
        with self._asking(key) as flight:
            answer = await self._router.complete(request)
            self._land(key, flight, answer)
            return answer

    def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        key = _key(request)
        return self._router.stream(request) if key is None else self._streamed(request, key)

    async def _streamed(self, request: ChatRequest, key: Key) -> AsyncGenerator[Step, None]:
        if found := await self._found(key, request.cache_ttl):
            for step in steps_of(found):
                yield step
            return
        heard = Gathering()
        with self._asking(key) as flight:
            async with aclosing(self._router.stream(request)) as steps:
                async for step in steps:
                    heard.take(step)
                    if heard.finish:  # kept first: who has heard it may stop listening
                        self._land(key, flight, heard.whole())
                    yield step

    async def _found(self, key: Key, ttl: float) -> Completion | None:
        """An answer that is there, or comes to somebody else; None where this call is to ask."""
        while True:
            if kept := self._answers.get(key, self._now() - ttl):
                return _again(kept)
            if (flight := self._flights.get(key)) is None:
                return None
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience):
                    await flight.landed.wait()
            if not flight.landed.is_set():
                return None
            if flight.answer:
                return _again(flight.answer) if flight.whole else None

    @contextmanager
    def _asking(self, key: Key) -> Iterator[_Flight]:
        flight = _Flight()
        self._flights.setdefault(key, flight)
        try:
            yield flight
        finally:
            self._leave(key, flight)

    def _land(self, key: Key, flight: _Flight, answer: Completion) -> None:
        flight.answer, flight.whole = answer, answer.finish.reason in _WHOLE
        if flight.whole:
            self._answers.keep(key, answer, self._now())
        self._leave(key, flight)

    def _leave(self, key: Key, flight: _Flight) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        flight.landed.set()


def _key(request: ChatRequest) -> Key | None:
    """None for requests that are not to be answered from here."""
    if not 0 <= request.cache_ttl < inf:
        says = f"must be a number of seconds, 0 or more; {request.cache_ttl} is none"
        raise InvalidInput(
            f"cache_ttl_seconds: {says}",
            reason="INVALID_REQUEST",
            violations=(Violation("cache_ttl_seconds", says),),
        )
    return key_of(request) if request.cache_ttl else None


def _again(answer: Completion) -> Completion:
    """The same words, which cost nothing this time."""
    finish = answer.finish
    cached = replace(finish, usage=Usage(cost_usd=0.0), besides=(), notices=(), cached=True)
    return replace(answer, finish=cached)
