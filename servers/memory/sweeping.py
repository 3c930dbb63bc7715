"""Removes what is over from stores, one after the other."""

from collections.abc import Iterable
from typing import Protocol

import structlog

from servers.kernel import telemetry
from servers.kernel.errors import AstromeshError

_log = structlog.stdlib.get_logger("astromesh.memory")


class Swept(Protocol):
    async def sweep(self) -> int: ...


async def sweep_all(what: str, stores: Iterable[tuple[str, Swept]]) -> None:
    """A store that fails is left for the next time, and the others are swept all the same: what
    is over isn't shown, but it should not stay."""
    for backend, store in stores:
        try:
            await store.sweep()
        except AstromeshError as error:
            _log.warning("what is over not removed", of=what, backend=backend, error=error.message)
        except Exception as error:  # nobody waits for it who could hear of it
            _log.exception(
                "removing what is over broke", of=what, backend=backend, error=repr(error)
            )
        else:
            continue
        telemetry.record(telemetry.SWEEPS_FAILED, 1, {telemetry.BACKEND: backend})
