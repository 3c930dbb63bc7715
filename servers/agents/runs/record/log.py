"""The live log of one run: appended by the run, followed by any number of readers.

A reader holds a position, not a queue: a slow one costs no memory beyond the log itself.
"""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncGenerator, Callable, Iterable

from servers.domain.run_events import Completed, Payload, RunEvent


class RunLog:
    def __init__(
        self,
        run_id: str,
        now: Callable[[], float],
        past: Iterable[RunEvent] = (),
        next_sequence: int = 1,
    ) -> None:
        self.run_id = run_id
        self._now = now
        self._events = list(past)
        self._next = next_sequence
        self._readers: set[asyncio.Future[None]] = set()
        self._ended = False

    @property
    def events(self) -> list[RunEvent]:
        return self._events

    def append(self, payload: Payload) -> RunEvent:
        event = self.foresee(payload)
        self.publish(event)
        return event

    def foresee(self, payload: Payload) -> RunEvent:
        """The event that would be next, not yet shown to anybody."""
        return RunEvent(self.run_id, self._next, self._now(), payload)

    def publish(self, event: RunEvent) -> None:
        self._next = event.sequence + 1
        self._events.append(event)
        self._ended = isinstance(event.payload, Completed)
        if self._readers:
            self._wake()

    def close(self) -> None:
        """Let the readers go, although the run has not ended: its process stops."""
        self._ended = True
        self._wake()

    async def follow(self, after: int = 0) -> AsyncGenerator[RunEvent, None]:
        """Events with a higher sequence than `after`, past and future, to the end."""
        at = bisect_right(self._events, after, key=lambda event: event.sequence)
        while True:
            while at < len(self._events):
                event = self._events[at]
                at += 1
                if event.sequence > after:  # the position may be ahead of the log
                    yield event
            if self._ended:
                return
            await self._more()

    async def _more(self) -> None:
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.add(woken)
        try:
            await woken
        finally:
            self._readers.discard(woken)

    def _wake(self) -> None:
        readers, self._readers = self._readers, set()
        for woken in readers:
            if not woken.done():
                woken.set_result(None)
