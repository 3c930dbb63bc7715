"""Ends processes that live as long as their stdin."""

import asyncio
from asyncio.subprocess import Process
from contextlib import suppress

_LEAVING = 1.5  # seconds from the end of its stdin until it is killed


async def end(process: Process) -> None:
    """The end of its stdin ends it; what does not heed it is killed."""
    if process.stdin:
        process.stdin.close()
    try:
        async with asyncio.timeout(_LEAVING):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
