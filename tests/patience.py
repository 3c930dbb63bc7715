"""How long tests wait for what must happen: a busy machine is slow, and that is nobody's fault."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

PATIENCE = 60.0  # seconds until a test gives up

# Seconds to leave a provider at once: one that is not left is given up after 30, which would
# look the same.
PROMPTLY = 20.0

# Seconds for what has to end by itself, though not before something has happened. How long that
# takes is the machine's business: the first ones that suffice will do.
SOON_ENOUGH = (0.3, 3.0, 30.0)


async def given_enough(
    runs_out: Callable[[float], Awaitable[Any]], happened: Callable[[], Any]
) -> None:
    """Give it more and more seconds to run out of, until they were enough for this to happen."""
    for seconds in SOON_ENOUGH:
        await runs_out(seconds)
        if happened():
            return
    raise AssertionError(f"{seconds:g} seconds were not enough")


async def until(holds: Callable[[], Any]) -> Any:
    """What it gives once that is true, for what sets no event: another process, a file, a server.
    It may have to be awaited."""
    async with asyncio.timeout(PATIENCE):
        while not (found := await _given(holds())):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return found


async def _given(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
