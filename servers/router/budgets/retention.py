"""Forgets entries that are older than anybody wants to know."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from servers.kernel.errors import AstromeshError
from servers.router.budgets.records import Record

DAY: Final = 86400
_STEP: Final = 500  # entries in one transaction: calls that are being recorded don't notice
_BREATH: Final = 0.05  # seconds between two steps
_PAUSE: Final = 3600.0  # seconds between two looks

_log = structlog.stdlib.get_logger("astromesh.usage")


async def forget_old(record: Record, keep_days: int, now: Callable[[], float]) -> None:
    """For ever. The mesh owns the task."""
    while True:
        try:
            forgotten = await forget_once(record, now() - keep_days * DAY)
            if forgotten:
                _log.info("usage forgotten", rows=forgotten, days=keep_days)
        except AstromeshError as error:
            _log.warning("usage not forgotten", error=error.message)
        await asyncio.sleep(_PAUSE)


async def forget_once(record: Record, before: float) -> int:
    """All from before that time, in small steps; tells how many there were."""
    forgotten = 0
    while step := await record.forget(before, _STEP):
        forgotten += step
        await asyncio.sleep(_BREATH)
    return forgotten
