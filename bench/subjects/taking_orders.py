"""For scripts in environments of their own: orders of `bench.orders` in, results out."""

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Deeds = Mapping[str, Callable[..., Awaitable[Any]]]  # each a name and what is done


async def serve(deeds: Deeds) -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what packages print is no result
    while order := await asyncio.to_thread(sys.stdin.readline):
        wanted = json.loads(order)
        done = await deeds[wanted.pop("deed")](**wanted)
        print(json.dumps(done), file=out, flush=True)
