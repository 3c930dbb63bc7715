"""One writer per session: runs of the same conversation do not interleave."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import takewhile

from servers.domain.memory import SessionKey
from servers.kernel.errors import Exhausted, NotReady

MAX_WAITING = 100  # runs per session; more than that is a mistake of the caller


@dataclass(slots=True, eq=False)
class Place:
    """A run's place in the line of its session. The first in the line works."""

    key: SessionKey
    cancel: Callable[[], None]  # ends the run, should another one replace it
    turn: asyncio.Future[None]
    run_id: str = ""


class Sessions:
    def __init__(self) -> None:
        self._lines: dict[SessionKey, deque[Place]] = {}

    def busy(self, key: SessionKey) -> bool:
        return key in self._lines

    def admit(self, key: SessionKey, policy: str, taken: bool = False) -> None:
        """Refuse a run that may not wait for its turn. Asked before the run is on record.

        `taken`: a run that is not at work in this process has the session.
        """
        line = self._lines.get(key, deque())
        if not (line or taken):
            return
        if policy == "reject":
            raise NotReady(
                f"session {key.session!r} is at work on another run; wait for it, or let the "
                "agent say concurrency: queue",
                reason="SESSION_BUSY",
                session=key.session,
            )
        if len(line) > MAX_WAITING:
            raise Exhausted(
                f"session {key.session!r} has {MAX_WAITING} runs waiting already",
                reason="SESSION_QUEUE_FULL",
                retry_after=1.0,
                session=key.session,
            )

    def members(self, key: SessionKey) -> frozenset[str]:
        """The runs that stand in the line."""
        return frozenset(place.run_id for place in self._lines.get(key, ()))

    def enter(self, key: SessionKey, cancel: Callable[[], None], run_id: str = "") -> Place:
        """Stand in line at once, so that whoever comes next finds the session busy.

        Whoever enters must `leave`, whether he had his turn or not.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        place = Place(key, cancel, turn, run_id)
        self._lines.setdefault(key, deque()).append(place)
        self._call_next(key)
        return place

    @asynccontextmanager
    async def turn(self, place: Place, policy: str) -> AsyncIterator[None]:
        """Wait for the session, first come first served, and hold it.

        With the policy "replace" all runs that came before are cancelled first.
        """
        if policy == "replace":
            for other in takewhile(lambda other: other is not place, self._lines[place.key]):
                other.cancel()
        try:
            await place.turn
            yield
        finally:
            self.leave(place)

    def leave(self, place: Place) -> None:
        """Give the place up, and the turn to the next. Again: does nothing."""
        line = self._lines.get(place.key, deque())
        if place in line:
            line.remove(place)
            self._call_next(place.key)

    def _call_next(self, key: SessionKey) -> None:
        line = self._lines[key]
        if not line:
            del self._lines[key]
        elif not line[0].turn.done():  # done: cancelled, and about to leave
            line[0].turn.set_result(None)
