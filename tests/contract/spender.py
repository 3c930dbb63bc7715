"""A process that spends on a budget that others spend on, too. Says and is told by lines.

Started as `python spender.py FOLDER BUDGET REDIS-URL PREFIX LEASE CALLS TOKENS`. It reserves
CALLS times TOKENS at once and says how many it got; told a number, it settles each with so
many tokens and says so.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from servers.kernel.errors import Exhausted
from servers.kernel.logs import configure_logs
from servers.router.ports import Cost
from tests.contract.spending_fixture import ANYBODY, books, budget, used


async def said() -> str:
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


async def main(folder: str, spec: str, redis: str, prefix: str, lease: str, calls: str, each: str):
    only, most = budget(**json.loads(spec)), Cost(int(each), None)
    async with books(
        Path(folder), only, redis=redis, prefix=prefix, lease=float(lease), clock=time.time
    ) as kept:
        print("ready", flush=True)
        await said()
        asked = [kept.reserve(ANYBODY, "company", "m", most) for _ in range(int(calls))]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        held = [answer for answer in answers if not isinstance(answer, Exhausted)]
        print(len(held), flush=True)
        real = used(int(await said()))
        await asyncio.gather(*(reservation.settle(real, "chat") for reservation in held))
        print("settled", flush=True)
        await said()


configure_logs()  # to standard error
asyncio.run(main(*sys.argv[1:]))
