"""Takes in what the spool holds, some documents at a time, until there is nothing left.

What is wrong with a document is that document's end. What is wrong with the store, the
model or the pipeline is waited for: it is nobody's fault who sent documents.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from time import perf_counter
from types import TracebackType
from typing import Protocol, Self, TypeVar

import structlog

from servers.domain.caller import Caller
from servers.domain.ingestions import Ingestion, IngestionState
from servers.domain.rag import Document, Ingested, IngestOutcome, StoredDocument
from servers.kernel.errors import AstromeshError, Exhausted, Interrupted, OutOfTime, Unavailable
from servers.kernel.telemetry import DOCUMENT_DURATION, OUTCOME, PIPELINE, record, span
from servers.rag.ports import Spool
from servers.rag.turns import Turns

T = TypeVar("T")

_PASSING = (Unavailable, Exhausted, OutOfTime, Interrupted)  # another try may go well
_LONGEST_PAUSE = 60.0
_SHOWN = 512  # characters of the id of the document in hand
_log = structlog.stdlib.get_logger("astromesh.rag")


class Pipelines(Protocol):
    """Where documents are taken in."""

    async def ready(self, pipeline: str) -> None:
        """Raises what keeps the pipeline from taking documents in."""
        ...

    async def ingest(
        self,
        caller: Caller,
        pipeline: str,
        document: Document,
        storing: Callable[[], Awaitable[None]],
    ) -> tuple[StoredDocument, IngestOutcome]:
        """Until `storing` has returned nothing of the document is written."""
        ...


@dataclass(frozen=True, slots=True)
class Work:
    """Bounds, all in seconds but the first."""

    lanes: int = 2  # documents at once
    document: float = 900.0  # for one document
    patience: float = 86_400.0  # for what is away
    drain: float = 10.0  # for documents in hand when the process ends
    first_pause: float = 1.0  # until what is away is tried again; twice as long each time


@dataclass(slots=True)
class _Trouble:
    why: str
    since: float
    pause: float
    timer: asyncio.TimerHandle
    rests: bool = True  # until its next try


class Hand:
    """What is in hand of one ingestion. It can be dropped until it is being stored: from then on
    it comes to its end, since half of it might be written."""

    def __init__(self) -> None:
        self.document: Document | None = None
        self._dropped = False
        self._scope: asyncio.Timeout | None = None
        self._storing = False

    def drop(self) -> None:
        self._dropped = True
        if self._scope and not self._storing:
            self._scope.reschedule(asyncio.get_running_loop().time())

    async def storing(self) -> None:
        """Returns where it may be stored. From then on dropping it does nothing."""
        if self._dropped:
            await asyncio.Event().wait()  # for the end, which is on its way
        self._storing = True

    async def held(self, work: Callable[[], Awaitable[T]]) -> T | None:
        """What came of the work; None where it was dropped."""
        if self._dropped:
            return None
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                return await work()
        except (TimeoutError, AstromeshError):
            if not scope.expired():
                raise
            return None
        finally:
            self._scope = None


class Worker:
    """Owned by who opens the service. Leaving lets the documents in hand come to an end;
    what is left is taken in after the next start."""

    def __init__(
        self, spool: Spool, pipelines: Pipelines, work: Work, now: Callable[[], float]
    ) -> None:
        self._spool, self._pipelines, self._work, self._now = spool, pipelines, work, now
        self._turns = Turns()
        self._lanes: list[asyncio.Task[None]] = []
        self._busy: set[asyncio.Task[None]] = set()
        self._hands: dict[str, Hand] = {}  # ingestion -> what is in hand of it
        self._troubles: dict[str, _Trouble] = {}
        self._watchers: dict[str, set[asyncio.Event]] = {}
        self._changes = Counter[str]()  # of pipelines
        self._closing = False

    async def __aenter__(self) -> Self:
        await self._spool.forget_receiving()
        for each in await self._spool.running():
            self._turns.add(each.tenant, each.id)
        self._lanes = [asyncio.create_task(self._lane()) for _ in range(self._work.lanes)]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing = True
        for trouble in self._troubles.values():
            trouble.timer.cancel()
        try:
            if self._busy:
                await asyncio.wait(self._busy, timeout=self._work.drain)
        finally:
            for lane in self._lanes:
                lane.cancel()
            for lane in self._lanes:
                with suppress(asyncio.CancelledError):
                    await lane

    def begin(self, ingestion: Ingestion) -> None:
        self._turns.add(ingestion.tenant, ingestion.id)

    def hurry(self, ingestion: Ingestion) -> None:
        """Something was said about it that it need not wait any longer for."""
        trouble = self._troubles.get(ingestion.id)
        if trouble and trouble.rests:  # else it has its turn already, and must not have two
            trouble.timer.cancel()
            self._resume(ingestion.tenant, ingestion.id)
        self._turns.hasten(ingestion.tenant, ingestion.id)
        self._tell(ingestion.id)

    def cancel(self, ingestion: Ingestion) -> None:
        """It is to be cancelled, as the spool knows by now."""
        if hand := self._hands.get(ingestion.id):
            hand.drop()
        self.hurry(ingestion)

    async def changed(self, pipelines: Collection[str]) -> None:
        """What waits for one of these need not wait any longer."""
        self._changes.update(pipelines)
        if any(each.rests for each in self._troubles.values()):
            for each in await self._spool.running():
                if each.pipeline in pipelines:
                    self.hurry(each)

    def _resume(self, tenant: str, name: str) -> None:
        self._troubles[name].rests = False
        self._turns.put_back(tenant, name)

    def seen(self, ingestion: Ingestion, principal: str) -> Ingestion:
        """With what only this process knows of it."""
        if ingestion.over:
            return ingestion
        trouble = self._troubles.get(ingestion.id)
        hand = self._hands.get(ingestion.id)
        document = hand.document if hand else None
        named = document and ingestion.names(document.acl, principal)
        current = document.id[:_SHOWN] if document and named else ""
        return replace(ingestion, current=current, waiting=trouble.why if trouble else "")

    @contextmanager
    def changes(self, ingestion: str) -> Iterator[asyncio.Event]:
        """An event that is set each time the ingestion gets on."""
        event = asyncio.Event()
        self._watchers.setdefault(ingestion, set()).add(event)
        try:
            yield event
        finally:
            self._watchers[ingestion].discard(event)
            if not self._watchers[ingestion]:
                del self._watchers[ingestion]

    def _tell(self, ingestion: str) -> None:
        for event in self._watchers.get(ingestion, ()):
            event.set()

    async def _lane(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        while not self._closing:
            ingestion = await self._turns.take()
            self._busy.add(task)
            try:
                await self._turn(ingestion)
            finally:
                self._busy.discard(task)

    async def _turn(self, name: str) -> None:
        """One document of one ingestion. The lane outlives whatever goes wrong."""
        ingestion: Ingestion | None = None
        hand = self._hands[name] = Hand()  # before it is asked whether it was cancelled
        try:
            ingestion = await self._spool.get(name)
            if ingestion is None or ingestion.over:
                return
            if await self._step(ingestion, hand):
                del self._hands[name]  # the next one may take it at once
                self._turns.put_back(ingestion.tenant, name)
        except AstromeshError as error:  # the state folder, then
            self._pause(name, ingestion, error.message, error.retry_after)
        except Exception as error:
            _log.exception("ingestion broke", operation=name, error=repr(error))
            self._pause(name, ingestion, "an internal error; the log has it", None)
        finally:
            if self._hands.get(name) is hand:
                del self._hands[name]
            self._tell(name)

    async def _step(self, ingestion: Ingestion, hand: Hand) -> bool:
        """Whether there is more to do now."""
        if ingestion.cancel:
            await self._end(ingestion, IngestionState.CANCELLED)
            return False
        entry = await self._spool.next(ingestion.id)
        if entry is None:
            await self._end(ingestion, IngestionState.DONE)
            return False
        number, document = entry
        hand.document = document
        self._tell(ingestion.id)
        changes = self._changes[ingestion.pipeline]
        try:
            told = await hand.held(lambda: self._taken_in(ingestion, document, hand))
        except AstromeshError as error:
            if self._changes[ingestion.pipeline] != changes:  # what failed is another's by now
                return True
            return await self._bear(ingestion, error)
        finally:
            hand.document = None
        if told is None:  # the next turn ends the ingestion
            return True
        await self._spool.settle(ingestion.id, number, told)
        self._troubles.pop(ingestion.id, None)
        return True

    async def _taken_in(self, ingestion: Ingestion, document: Document, hand: Hand) -> Ingested:
        """How the document ended. Raises what is not its own fault."""
        await self._pipelines.ready(ingestion.pipeline)
        caller = Caller(ingestion.tenant, ingestion.principal, ingestion.id)
        began = perf_counter()
        with span("ingest document", {PIPELINE: ingestion.pipeline}) as traced:
            try:
                told = await self._attempt(caller, ingestion.pipeline, document, hand)
            finally:
                took = perf_counter() - began
            traced.set_attribute(OUTCOME, told.outcome.value)
        labels = {PIPELINE: ingestion.pipeline, OUTCOME: told.outcome.value}
        record(DOCUMENT_DURATION, took, labels)
        return told

    async def _attempt(
        self, caller: Caller, pipeline: str, document: Document, hand: Hand
    ) -> Ingested:
        failed = IngestOutcome.FAILED
        try:
            async with asyncio.timeout(self._work.document):
                ingest = self._pipelines.ingest(caller, pipeline, document, hand.storing)
                stored, outcome = await ingest
        except TimeoutError:
            says = f"it took longer than {self._work.document:.0f} s"
            return Ingested(document.id, failed, 0, "DEADLINE_EXCEEDED", says)
        except _PASSING:
            raise
        except AstromeshError as error:
            await self._pipelines.ready(pipeline)  # or it was gone, or another's, meanwhile
            return Ingested(document.id, failed, 0, error.reason, error.message)
        except Exception as error:  # a bug must not hold up the others for ever
            _log.exception("document broke", document=document.id, error=repr(error))
            return Ingested(document.id, failed, 0, "INTERNAL", "an internal error")
        return Ingested(document.id, outcome, stored.chunks)

    async def _bear(self, ingestion: Ingestion, error: AstromeshError) -> bool:
        trouble = self._troubles.get(ingestion.id)
        if trouble and self._now() - trouble.since > self._work.patience:
            await self._end(ingestion, IngestionState.GAVE_UP, error.message)
            return False
        self._pause(ingestion.id, ingestion, error.message, error.retry_after)
        return False

    def _pause(
        self, name: str, ingestion: Ingestion | None, why: str, retry_after: float | None
    ) -> None:
        before = self._troubles.get(name)
        usual = min(before.pause * 2, _LONGEST_PAUSE) if before else self._work.first_pause
        pause = min(max(usual, retry_after or 0.0), _LONGEST_PAUSE)
        tenant = ingestion.tenant if ingestion else ""
        timer = asyncio.get_running_loop().call_later(pause, self._resume, tenant, name)
        since = before.since if before else self._now()
        self._troubles[name] = _Trouble(why, since, pause, timer)
        _log.warning("ingestion waits", operation=name, seconds=round(pause, 1), error=why)

    async def _end(self, ingestion: Ingestion, state: IngestionState, why: str = "") -> None:
        await self._spool.end(ingestion.id, state, why)
        if trouble := self._troubles.pop(ingestion.id, None):
            trouble.timer.cancel()
        _log.info(
            "ingestion ended",
            operation=ingestion.id,
            pipeline=ingestion.pipeline,
            state=state.value,
            documents=ingestion.documents,
            failed=ingestion.failed,
        )
