"""Many at once, or one alone."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class SharedLock:
    """Who wants to be alone waits for those inside; who comes later waits for him."""

    def __init__(self) -> None:
        self._gate = asyncio.Lock()
        self._inside = 0
        self._nobody = asyncio.Event()
        self._nobody.set()

    @asynccontextmanager
    async def shared(self) -> AsyncIterator[None]:
        async with self._gate:
            self._inside += 1
            self._nobody.clear()
        try:
            yield
        finally:
            self._inside -= 1
            if not self._inside:
                self._nobody.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        async with self._gate:
            await self._nobody.wait()
            yield


async def to_its_end(work: Coroutine[Any, Any, T]) -> T:
    """Also where who asked has left: what is half done holds its locks until it is done."""
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    finally:
        if not task.done():
            await asyncio.wait([task])
