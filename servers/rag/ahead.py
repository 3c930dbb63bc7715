"""Works on several of a stream at a time, and tells of them in their order.

While one document is written to its store, the model reads the next: with one at a time,
each waits for the other.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


async def ahead(
    items: AsyncIterator[T],
    work: Callable[[T], Awaitable[R]],
    key: Callable[[T], object],
    most: int,
) -> AsyncGenerator[R, None]:
    """At most `most` are worked on, or wait to be told. Items of the same key are worked on one
    after the other. What is done is told although the next item has yet to come: whoever sends
    it may wait for that. What reading `items` raises is raised behind those that came before."""
    begun: asyncio.Queue[tuple[object, asyncio.Task[R]] | None] = asyncio.Queue()
    free, newest = asyncio.Semaphore(most), dict[object, asyncio.Task[R]]()
    working = set[asyncio.Task[R]]()

    async def one(item: T, before: "asyncio.Task[R] | None") -> R:
        if before is not None:
            await asyncio.wait([before])
        return await work(item)

    async def read() -> None:
        try:
            async for item in items:
                await free.acquire()
                name = key(item)
                task = asyncio.create_task(one(item, newest.get(name)))
                newest[name] = task
                working.add(task)
                begun.put_nowait((name, task))
        finally:
            begun.put_nowait(None)

    reader = asyncio.create_task(read())
    try:
        while found := await begun.get():
            name, task = found
            yield await task
            working.discard(task)
            if newest.get(name) is task:
                del newest[name]
            free.release()
        await reader
    finally:
        for each in (reader, *working):
            each.cancel()
        await asyncio.gather(reader, *working, return_exceptions=True)
