"""The thread of a model: gathers what waits, runs it in batches, each caller in turn.

Nobody waits for a batch to become full: while one runs, the next one gathers.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from queue import Empty, SimpleQueue
from time import perf_counter
from typing import Any, Generic

from servers.router.adapters.encoders.job import Job, Part, alike
from servers.router.adapters.encoders.tasks import E, Switch

# What a batch may have on the average. More makes nothing faster on a CPU, it only lets the next
# caller wait longer, and takes memory.
_TOKENS_PER_TEXT = 32
_OLD, _NEW = 0.8, 0.2  # weights of the moving average


class Reader(Generic[E]):
    """`load` is called once there is work, and again where it failed.

    `arrived` takes jobs from the event loop, and None for the end, which `ended` tells.
    """

    def __init__(self, load: Callable[[], E], most: int, loop: asyncio.AbstractEventLoop) -> None:
        self._load, self._most, self._loop = load, most, loop
        self.arrived: SimpleQueue[Job | None] = SimpleQueue()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.engine: E | None = None
        self.running: tuple[Sequence[Job], Switch] | None = None
        self.pace = 0.0  # seconds that a text takes, moving average
        self._turns: deque[Job] = deque()

    def start(self) -> None:
        # A daemon, so that a model which hangs can't keep the process from ending.
        threading.Thread(target=self._live, name="encoder", daemon=True).start()

    def _live(self) -> None:
        try:
            while self._gather():
                if self._loaded():
                    for group in alike(self._fill()):
                        self._run(group)
        finally:
            self._settle([self.ended])

    def _gather(self) -> bool:
        """Take what has arrived; wait where there is nothing to do. False: it is time to stop."""
        with suppress(Empty):
            while True:
                job = self.arrived.get(block=not self._turns)
                if job is None:
                    return False
                self._turns.append(job)
        return True

    def _loaded(self) -> bool:
        if self.engine is None:
            try:
                self.engine = self._load()
            except Exception as error:
                self._fail(list(self._turns), error)
                self._turns.clear()
        return self.engine is not None

    def _fill(self) -> list[Part]:
        """The next batch: one part of each caller in turn, until it is full."""
        parts: list[Part] = []
        tokens = 0
        while self._turns and len(parts) < self._most and tokens < self._most * _TOKENS_PER_TEXT:
            job = self._turns.popleft()
            part = None if job.dropped else self._next(job)
            if part is not None:
                parts.append(part)
                tokens += part.piece.tokens
                self._turns.append(job)
        return parts

    def _next(self, job: Job) -> Part | None:
        try:
            part = job.next(self.engine)
        except Exception as error:
            self._fail([job], error)
            return None
        if part is None and job.done:  # it never had a text: it only wanted the model loaded
            self._settle([job.future])
        return part

    def _run(self, parts: Sequence[Part]) -> None:
        parts = [part for part in parts if not part.job.dropped]
        jobs = list(dict.fromkeys(part.job for part in parts))
        assert self.engine is not None
        switch = self.engine.switch()
        self.running = jobs, switch
        began = perf_counter()
        try:
            if all(job.dropped for job in jobs):  # who left meanwhile has found no switch
                return
            found = self.engine.run([part.piece for part in parts], switch)
        except Exception as error:
            self._again(parts, jobs, error)
            return
        finally:
            self.running = None
        took = (perf_counter() - began) / len(parts)
        self.pace = _OLD * self.pace + _NEW * took if self.pace else took
        for part, each in zip(parts, found, strict=True):
            self._take(part, each)
        self._settle([job.future for job in jobs if job.done])

    def _again(self, parts: Sequence[Part], jobs: Sequence[Job], error: Exception) -> None:
        """One caller's text must not fail the others: each once more, alone."""
        if len(jobs) == 1:
            self._fail(jobs, error)
            return
        for job in jobs:
            self._run([part for part in parts if part.job is job])

    def _take(self, part: Part, found: Any) -> None:
        try:
            if not part.job.dropped:
                part.job.take(part, found)
        except Exception as error:
            self._fail([part.job], error)

    def _fail(self, jobs: Sequence[Job], error: Exception) -> None:
        for job in jobs:
            job.dropped = True
        self._settle([job.future for job in jobs], error)

    def _settle(
        self, futures: Sequence["asyncio.Future[None]"], error: Exception | None = None
    ) -> None:
        """Wake the loop once for all of them."""
        if futures:
            with suppress(RuntimeError):  # the loop is gone, and with it everyone who waits
                self._loop.call_soon_threadsafe(_settle, futures, error)


def _settle(futures: Sequence["asyncio.Future[None]"], error: Exception | None) -> None:
    for future in futures:
        if future.done():  # its caller was cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(copy(error))
