"""Forgets runs that ended long ago, and makes the logs of those that ended smaller."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from servers.agents.ports import Retention
from servers.kernel.errors import AstromeshError

_log = structlog.stdlib.get_logger("astromesh.agents")

_EVERY = 60.0  # seconds
_AT_ONCE = 100  # runs: others want to write in between
_BREATH = 0.05  # seconds, for them


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
            await clean(retention, now(), ttl, compact_after)
        except AstromeshError as error:  # there is a next time
            _log.warning("old runs not forgotten", error=error.message)
        await asyncio.sleep(every)


async def clean(
    retention: Retention, now: float, ttl: float | None, compact_after: float | None
) -> None:
    """All that is due by now."""
    if ttl is not None and (forgotten := await _until_done(retention.forget, now - ttl)):
        _log.info("runs forgotten", runs=forgotten)
    if compact_after is not None and (
        smaller := await _until_done(retention.compact, now - compact_after)
    ):
        _log.info("logs of runs made smaller", runs=smaller)


async def _until_done(work: Callable[[float, int], Awaitable[int]], before: float) -> int:
    done = 0
    while some := await work(before, _AT_ONCE):
        done += some
        await asyncio.sleep(_BREATH)
    return done
