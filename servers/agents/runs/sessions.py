"""One writer per session: runs of the same conversation do not interleave."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from servers.domain.memory import SessionKey
from servers.kernel.errors import Exhausted, NotReady

MAX_WAITING = 100  # runs per session; more than that is a mistake of the caller


@dataclass(slots=True)
class _Session:
    holder: Callable[[], None]  # cancels the run that works
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque)


class Sessions:
    def __init__(self) -> None:
        self._sessions: dict[SessionKey, _Session] = {}

    def busy(self, key: SessionKey) -> bool:
        return key in self._sessions

    def admit(self, key: SessionKey, policy: str) -> None:
        """Refuse a run that may not wait for its turn. Asked before the run is on record."""
        session = self._sessions.get(key)
        if session is None:
            return
        if policy == "reject":
            raise NotReady(
                f"session {key.session!r} is at work on another run; wait for it, or let the "
                "agent say concurrency: queue",
                reason="SESSION_BUSY",
                session=key.session,
            )
        if len(session.waiting) >= MAX_WAITING:
            raise Exhausted(
                f"session {key.session!r} has {MAX_WAITING} runs waiting already",
                reason="SESSION_QUEUE_FULL",
                retry_after=1.0,
                session=key.session,
            )

    @asynccontextmanager
    async def turn(
        self, key: SessionKey, policy: str, cancel: Callable[[], None]
    ) -> AsyncIterator[None]:
        """Wait for the session, first come first served, and hold it.

        With the policy "replace" the run that works is cancelled first. `cancel` ends
        the run that asks, should another one replace it later.
        """
        if session := self._sessions.get(key):
            await self._wait(session, key, policy)
            session.holder = cancel
        else:
            self._sessions[key] = _Session(cancel)
        try:
            yield
        finally:
            self._pass_on(key)

    async def _wait(self, session: _Session, key: SessionKey, policy: str) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        session.waiting.append(turn)
        if policy == "replace":
            session.holder()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # it was ours already: hand it on
                self._pass_on(key)
            else:
                session.waiting.remove(turn)
            raise

    def _pass_on(self, key: SessionKey) -> None:
        session = self._sessions[key]
        while session.waiting:
            turn = session.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        del self._sessions[key]
