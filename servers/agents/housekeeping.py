"""Forgets runs that ended long ago, and makes the logs of those that ended smaller."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from servers.agents.ports import Retention
from servers.kernel.errors import AstromeshError

_log = structlog.stdlib.get_logger("astromesh.agents")

_EVERY = 60.0  # seconds
_AT_ONCE = 200  # runs: others want to write in between


async def keep_house(
    retention: Retention,
    now: Callable[[], float],
    ttl: float | None,
    compact_after: float | None,
    every: float = _EVERY,
) -> None:
    """For ever. `ttl` and `compact_after` are seconds after the end of a run; None: never."""
    while True:
        try:
            if ttl is not None:
                await _until_done(retention.forget, now() - ttl)
            if compact_after is not None:
                await _until_done(retention.compact, now() - compact_after)
        except AstromeshError as error:  # there is a next time
            _log.warning("old runs not forgotten", error=error.message)
        await asyncio.sleep(every)


async def _until_done(work: Callable[[float, int], Awaitable[int]], before: float) -> None:
    more = True
    while more:
        more = await work(before, _AT_ONCE) == _AT_ONCE
