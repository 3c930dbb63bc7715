"""Work that goes on as long as something else is open."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any


@asynccontextmanager
async def for_ever(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Leaving the context ends it."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
