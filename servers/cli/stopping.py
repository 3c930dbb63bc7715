"""Told to stop: the first signal asks, the second insists."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

# A terminal that closes (SIGHUP) must not leave a mesh behind.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stop:
    """Set by the first signal. While `interruptible` it cancels the task instead of asking,
    and so does every further one."""

    def __init__(self, task: asyncio.Task[int]) -> None:
        self._task = task
        self._asked = asyncio.Event()
        self.interruptible = True  # until there is something to drain

    async def wait(self) -> None:
        await self._asked.wait()

    def signalled(self) -> None:
        if self._asked.is_set() or self.interruptible:
            self._task.cancel()
        self._asked.set()


@contextmanager
def stopping(task: asyncio.Task[int]) -> Iterator[Stop]:
    """Signals reach `task` while inside, instead of ending the process."""
    loop, stop = asyncio.get_running_loop(), Stop(task)
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.signalled)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
