"""How long tests wait for what must happen: a busy machine is slow, and that is nobody's fault."""

import asyncio
from collections.abc import Callable
from typing import Any

PATIENCE = 60.0  # seconds until a test gives up

# Seconds to leave a provider at once: one that is not left is given up after 30, which would
# look the same.
PROMPTLY = 20.0

# Seconds for what has to end by itself, though not before something has happened. How long that
# takes is the machine's business: the first ones that suffice will do.
SOON_ENOUGH = (0.3, 3.0, 30.0)


async def until(holds: Callable[[], Any]) -> None:
    """Return when it holds, for what sets no event: another process, a file, a server."""
    async with asyncio.timeout(PATIENCE):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
