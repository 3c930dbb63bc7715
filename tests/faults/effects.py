"""A tool with an effect that can be counted from outside: one line in a file per call."""

import asyncio
import os
from pathlib import Path

from servers.tools.declare import tool


@tool(idempotent=False, timeout=60)
async def send_mail(to: str) -> str:
    """Send a mail.

    Args:
        to: Whom to send it to.
    """
    folder = Path(os.environ["EFFECTS_DIR"])
    with (folder / "sent").open("a") as sent:
        sent.write(f"{to}\n")
    while (folder / "hold").exists():  # noqa: ASYNC110  # the test is another process
        await asyncio.sleep(0.01)
    return f"sent to {to}"
