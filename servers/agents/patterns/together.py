"""Several pieces of work at once, of which some may have to wait for something from outside."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from typing import TypeVar

from servers.agents.patterns.ports import Suspended

T = TypeVar("T")


async def together(jobs: Sequence[Callable[[], Awaitable[T]]], most: int = 0) -> list[T]:
    """The results in the order of the jobs, of which at most `most` work at once (0: all).

    A job that raises Suspended lets the others end first: what they do must not be lost.
    Any other error cancels them, and is raised as it is.
    """
    if len(jobs) == 1:
        return [await jobs[0]()]
    gate = asyncio.Semaphore(most) if most else nullcontext()

    async def one(job: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await job()

    tasks = [asyncio.create_task(one(job)) for job in jobs]
    try:
        return await _ended(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _ended(tasks: Sequence[asyncio.Task[T]]) -> list[T]:
    waiting: Suspended | None = None
    for next_done in asyncio.as_completed(tasks):
        try:
            await next_done
        except Suspended as suspended:
            waiting = suspended
    if waiting:
        raise waiting
    return [task.result() for task in tasks]
