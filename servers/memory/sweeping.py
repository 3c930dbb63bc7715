"""Removes what is over from stores, whatever keeps others from it."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

import structlog

from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError

_log = structlog.stdlib.get_logger("astromesh.memory")


Sweep: TypeAlias = Callable[[], Awaitable[object]]


async def sweep_all(what: str, sweeps: Iterable[tuple[str, Sweep]]) -> None:
    """`sweeps`: each with the kind of its database. One that fails is left for the next time,
    and the others are swept all the same: what is over isn't shown, but it should not stay."""
    await asyncio.gather(*(_swept(what, backend, sweep) for backend, sweep in sweeps))


async def _swept(what: str, backend: str, sweep: Sweep) -> None:
    try:
        await sweep()
        return
    except AstromeshError as error:
        _log.warning("what is over not removed", of=what, backend=backend, error=error.message)
    except Exception as error:  # nobody waits for it who could hear of it
        _log.exception("removing what is over broke", of=what, backend=backend, error=repr(error))
    telemetry.record(telemetry.SWEEPS_FAILED, 1, {telemetry.BACKEND: backend})
