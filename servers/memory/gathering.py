"""Asks several sources at once: one that is needed, and others that can be done without."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Final, TypeAlias, TypeVar

import structlog

from servers.domain.semantic import SourceFailure
from servers.kernel.errors import AstromeshError
from servers.kernel.telemetry import span

T = TypeVar("T")
Source: TypeAlias = Callable[[], Awaitable[Any]]

_log = structlog.stdlib.get_logger("astromesh.memory")

PATIENCE: Final = 3.0  # seconds that the others get where nobody says how many
LONGEST: Final = 60.0


async def gathered(
    needed: Coroutine[Any, Any, T],
    others: Mapping[str, Source],
    patience: float | None = None,
) -> tuple[T, Mapping[str, Any], tuple[SourceFailure, ...]]:
    """What the needed one gave, what the others gave by name, and which of them failed.

    They run at the same time; nothing of them is left behind. Raises what the needed one
    raises. One of the others that fails, or is not done in time, costs nobody more than that.
    """
    if not others:
        return await needed, {}, ()
    failures: list[SourceFailure] = []
    rest = {
        name: asyncio.create_task(_tried(name, other, patience, failures))
        for name, other in others.items()
    }
    try:
        answer = await needed
        found = {name: await task for name, task in rest.items()}
    finally:
        if left := [task for task in rest.values() if not task.done()]:
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
    failed = {each.source for each in failures}
    given = {name: each for name, each in found.items() if name not in failed}
    return answer, given, tuple(sorted(failures, key=lambda each: each.source))


async def _tried(
    source: str,
    other: Source,
    patience: float | None,
    failures: list[SourceFailure],
) -> Any:
    seconds = min(PATIENCE if patience is None else patience, LONGEST)
    try:
        with span("search_memory", {"astromesh.memory.source": source}):
            async with asyncio.timeout(seconds):
                return await other()
    except TimeoutError:
        failures.append(SourceFailure(source, "TIMEOUT", f"no answer in {seconds:g} seconds"))
    except AstromeshError as error:
        failures.append(SourceFailure(source, error.reason, error.message))
    except Exception as error:  # a fault of one source isn't one of the conversation
        _log.exception("source of memory broke", source=source, error=repr(error))
        failures.append(SourceFailure(source, "INTERNAL", "it broke; the log has the details"))
    return None
