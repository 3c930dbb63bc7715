"""A bounded number of threads for functions that block.

A running thread can't be killed. One whose caller has gone goes on, and keeps its
place until it returns: a function that never returns costs one place for good, never
an unbounded number of threads. The threads are daemons, so that a stuck tool can't
keep the process from ending, which is what `concurrent.futures` would do.
"""

import asyncio
import contextvars
from collections.abc import Callable
from contextlib import suppress
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


class Threads:
    """At most `limit` functions at a time; the others wait in line."""

    def __init__(self, limit: int = 16) -> None:
        self._places = asyncio.Semaphore(limit)

    async def run(self, function: Callable[[], T]) -> T:
        """What the function returns or raises. Cancelling leaves it running, unheard."""
        await self._places.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[tuple[T | None, BaseException | None]] = loop.create_future()

        def finish(value: T | None, error: BaseException | None) -> None:
            self._places.release()
            if not answer.done():  # done: the caller has gone
                answer.set_result((value, error))

        def work() -> None:
            value, error = None, None
            try:
                value = function()
            except BaseException as raised:  # SystemExit too: it would end the loop
                error = raised
            with suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(finish, value, error)

        context = contextvars.copy_context()  # trace and run ids go along
        try:
            Thread(target=context.run, args=(work,), name="tool", daemon=True).start()
        except RuntimeError:  # the system has no thread to give
            self._places.release()
            raise
        value, error = await answer
        if error is not None:
            raise error
        return value  # type: ignore[return-value]  # no error, so it is a T
