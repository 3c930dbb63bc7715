"""A bounded number of threads for functions that block.

A running thread can't be killed. One whose caller has gone goes on, and keeps its
place until it returns: a function that never returns costs one place for good, never
an unbounded number of threads. The threads are daemons, so that a stuck tool can't
keep the process from ending, which is what `concurrent.futures` would do.
"""

import asyncio
import contextvars
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import TypeAlias, TypeVar

T = TypeVar("T")
_Queue: TypeAlias = SimpleQueue[Callable[[], None] | None]


class Threads:
    """At most `limit` functions at a time; the others wait in line.

    Threads start when they are needed, serve on, and end with this object.
    """

    def __init__(self, limit: int = 16) -> None:
        self._places = asyncio.Semaphore(limit)
        self._work: _Queue = SimpleQueue()
        self._started = self._busy = 0
        weakref.finalize(self, _send_home, self._work, limit)

    async def run(self, function: Callable[[], T]) -> T:
        """What the function returns or raises. Cancelling leaves it running, unheard."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

        def finish(value: T | None, error: BaseException | None) -> None:
            self._busy -= 1
            self._places.release()
            if not answer.done():  # done: the caller has gone
                answer.set_result((value, error))

        def work() -> None:
            value, error = None, None
            try:
                value = function()
            except BaseException as raised:  # SystemExit too: it would end the thread
                error = raised
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(finish, value, error)

        self._employ()
        context = contextvars.copy_context()  # trace and run ids go along
        self._work.put(lambda: context.run(work))
        value, error = await answer
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # no error, so it is a T

    def _employ(self) -> None:
        """See that one more function can run. Raises where the system has no thread to give."""
        try:
            if self._started == self._busy:
                Thread(target=_serve, args=(self._work,), name="tool", daemon=True).start()
                self._started += 1
        except RuntimeError:
            self._places.release()
            raise
        self._busy += 1


def _serve(queue: _Queue) -> None:
    # Knows the queue only: a thread that knew its Threads would keep it from ending.
    while (job := queue.get()) is not None:
        job()
        del job  # or the last result would live until the next call


def _send_home(queue: _Queue, limit: int) -> None:
    for _ in range(limit):
        queue.put(None)
