"""What of a run is on disk when.

The journal appends to the live log at once and to the store as the run's durability
says. Writes of one run keep their order; text is written in chunks.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from servers.agents.runs.record.log import RunLog
from servers.agents.runs.record.writes import RunWriter
from servers.domain.run_events import (
    Completed,
    Payload,
    ReasoningDelta,
    RunEvent,
    StateChanged,
    TextDelta,
)
from servers.domain.runs import Durability, Run

CHUNK_SECONDS = 0.2  # text that a crash may lose; the model call is made again anyway
CHUNK_EVENTS = 256
MOST_UNWRITTEN = 1024  # events of a run on their way to the disk; its models wait while there are
STEP_SECONDS = 0.005  # steps that can be taken again are written together with what comes by then

# After a restart sequences go on so far beyond the stored ones that none which a reader may have
# seen of the unwritten ones comes again. A run whose disk is stuck goes on telling its readers: so
# many are five minutes of a fast model. On the wire they have 31 bits, for 20,000 crashes of a run.
RESTART_GAP = 100_000
_LOST_GAP = 1_000_000_000  # where nothing was written before the end


def first_sequence(run: Run, past: Sequence[RunEvent], crashed: bool = True) -> int:
    """Of the events that follow: no reader can have seen one as high as this.

    `crashed`: there may have been events which are not on record, and which readers saw.
    """
    last = past[-1].sequence if past else 0
    if not crashed:
        return last + 1
    return last + (RESTART_GAP if run.durability is Durability.STEP else _LOST_GAP)


class Journal:
    def __init__(
        self,
        log: RunLog,
        store: RunWriter,
        durability: Durability,
        on_record: bool = False,
        step_seconds: float = STEP_SECONDS,
    ) -> None:
        """`on_record`: the run is in the store already, with the events that the log has."""
        self.log = log
        self._stored = log.events[-1].sequence if log.events else 0
        self._on_record = on_record
        self._store = store
        self._durability = durability
        self._step_seconds = step_seconds
        self._pending: list[RunEvent] = []
        self._on_the_way = 0  # events that were handed over and are not written yet
        self._last: asyncio.Task[None] | None = None  # the newest write; it awaits the older ones
        self._timer: asyncio.TimerHandle | None = None
        self._unwritten: tuple[Run, str] | None = None  # the run, while it is not on record
        self._first: asyncio.Task[None] | None = None  # the write that puts it there
        self._creation: asyncio.Task[tuple[Run, bool]] | None = None  # and what came of it

    @property
    def keeps(self) -> bool:
        """Whether the run is ever on record."""
        return self._durability is not Durability.NONE

    @property
    def is_on_record(self) -> bool:
        """Whether the run is in the store by now."""
        first = self._first
        stored = first is None or (first.done() and not first.cancelled() and not first.exception())
        return self._on_record and self._unwritten is None and stored

    def admit(self, run: Run, request_hash: str) -> None:
        """Put the run on record; every later write waits for it."""
        self._on_record = True
        self._creation = asyncio.create_task(self._store.create(run, request_hash))
        self._first = self._last = _started(None, partial(asyncio.shield, self._creation))

    async def admitted(self) -> Run | None:
        """Return when a run that was to be admitted is on record.

        Returns the run, or the earlier one that had the same request id.
        """
        if self._creation is None:
            return None
        stored, _ = await asyncio.shield(self._creation)
        return stored

    def admit_later(self, run: Run, request_hash: str) -> None:
        """Put the run on record together with the first write, which comes soon at the latest.

        For a caller that hears of the run only when it has ended: where the process stops
        before, he hears nothing, and nothing has had an effect.
        """
        self._on_record = True
        self._unwritten = run, request_hash
        self._flush_within(CHUNK_SECONDS)

    async def on_record(self) -> None:
        """Return when the run is on record, if it is to be before its end."""
        if self._unwritten:
            self._write(None)
        if self._first and not self._first.done():
            await asyncio.wait((self._first,))

    def emit(self, payload: Payload) -> None:
        """Tell the readers; write it with the next commit, or soon if it is text."""
        event = self.log.append(payload)
        if self._durability is not Durability.STEP:
            return
        self._pending.append(event)
        if isinstance(payload, TextDelta | ReasoningDelta):
            if len(self._pending) >= CHUNK_EVENTS:
                self._flush()
            else:
                self._flush_within(CHUNK_SECONDS)

    @property
    def full(self) -> bool:
        """Whether so much is on its way to the disk that nothing should be added."""
        return self._on_the_way >= MOST_UNWRITTEN

    async def room(self) -> None:
        """Return when it is not full any more. Raises what a write has failed with."""
        while self.full:
            await self._drained(self._last)

    async def commit(self, run: Run | None = None) -> None:
        """Return when all that was emitted is on disk, as far as the durability asks for it.

        Raises what a write before has failed with: a run whose log can't be written must
        stop before its next side effect.
        """
        if self._durability is Durability.STEP:
            await self._drained(self._write(run))

    def commit_soon(self, run: Run | None = None) -> None:
        """As `commit`, without waiting for the disk."""
        if self._durability is Durability.STEP:
            self._write(run)

    def commit_shortly(self) -> None:
        """As `commit_soon`, for what can be done again: with what comes in the next moment."""
        if self._durability is Durability.STEP:
            self._flush_within(self._step_seconds)

    async def come_to(self, run: Run, request_hash: str) -> None:
        """Write the answer that the run has come to, and all before it: from then on it ends with
        it, also in another process."""
        match self._durability:
            case Durability.STEP:
                await self.commit(run)
            case Durability.EXIT:
                fresh = [each for each in self.log.events if each.sequence > self._stored]
                await self._record(run, fresh, request_hash)
                self._stored = fresh[-1].sequence if fresh else self._stored

    async def end(self, run: Run, request_hash: str) -> None:
        """Write the end. Readers see it only then."""
        await self._last_word(Completed(run), run, request_hash)

    async def suspend(self, run: Run, request_hash: str) -> None:
        """Write that the run waits. Readers see it only then: what they answer must find it."""
        await self._last_word(StateChanged(run.state), run, request_hash)

    async def _last_word(self, payload: Payload, run: Run, request_hash: str) -> None:
        event = self.log.foresee(payload)
        match self._durability:
            case Durability.STEP:
                self._pending.append(event)
                await self._drained(self._write(run))
            case Durability.EXIT:
                fresh = [each for each in self.log.events if each.sequence > self._stored]
                await self._record(run, [*fresh, event], request_hash)
        self._stop_timer()
        self.log.publish(event)

    async def _record(self, run: Run, events: list[RunEvent], request_hash: str) -> None:
        if self._on_record:
            await self._drained(self._last)
            await self._store.append(run.id, events, run)
        else:
            _, self._on_record = await self._store.create(run, request_hash, events)

    def abandon(self, run: Run) -> None:
        """The end couldn't be written. Readers learn it all the same."""
        self._stop_timer()
        self.log.append(Completed(run))

    def _flush_within(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._flush)

    def _flush(self) -> None:
        self._timer = None
        self._write(None)

    def _write(self, run: Run | None) -> asyncio.Task[None] | None:
        """Hand over what is pending, behind the writes before. Cancelling the one who waits
        never cancels a write: the log would get a gap."""
        self._stop_timer()
        batch, self._pending = self._pending, []
        write: Callable[[], Awaitable[Any]]
        if self._unwritten:
            first, request_hash = self._unwritten
            self._unwritten = None
            write = partial(self._store.create, run or first, request_hash, batch)
            self._first = self._last = self._counted(_started(None, write), len(batch))
            return self._last
        elif batch or run is not None:
            write = partial(self._store.append, self.log.run_id, batch, run)
        else:
            return self._last
        self._last = self._counted(_started(self._last, write), len(batch))
        return self._last

    def _counted(self, write: asyncio.Task[None], events: int) -> asyncio.Task[None]:
        def over(_: asyncio.Task[None]) -> None:
            self._on_the_way -= events

        self._on_the_way += events
        write.add_done_callback(over)
        return write

    async def _drained(self, write: asyncio.Task[None] | None) -> None:
        if write is not None:
            await asyncio.shield(write)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


async def _behind(before: asyncio.Task[None] | None, write: Callable[[], Awaitable[Any]]) -> None:
    if before is not None:
        await before
    await write()


def _started(
    before: asyncio.Task[None] | None, write: Callable[[], Awaitable[Any]]
) -> asyncio.Task[None]:
    task = asyncio.create_task(_behind(before, write))
    task.add_done_callback(_seen)  # whoever writes next raises it
    return task


def _seen(write: asyncio.Task[None]) -> None:
    if not write.cancelled():
        write.exception()
