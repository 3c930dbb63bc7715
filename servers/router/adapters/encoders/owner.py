"""Owns the models that read texts in this process: each is loaded once, whoever asks."""

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

from servers.router.adapters.encoders.tasks import E
from servers.router.adapters.encoders.worker import Bounds, Worker


class Encoders:
    """Made by `open_encoders`. Nothing is loaded before somebody wants it."""

    def __init__(self) -> None:
        self._workers: dict[Hashable, Worker[Any]] = {}

    def worker(self, key: Hashable, name: str, load: Callable[[], E], bounds: Bounds) -> Worker[E]:
        """The same for the same key. `name` is what errors call the model."""
        found = self._workers.get(key)
        if found is None:
            found = self._workers[key] = Worker(name, load, bounds)
        return found

    async def aclose(self) -> None:
        if self._workers:
            await asyncio.gather(*(worker.aclose() for worker in self._workers.values()))


@asynccontextmanager
async def open_encoders() -> AsyncIterator[Encoders]:
    """Leaving the context refuses what still waits, and ends the threads."""
    encoders = Encoders()
    try:
        yield encoders
    finally:
        await encoders.aclose()
