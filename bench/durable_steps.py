"""How many durable steps a second the run log takes, and how long each waits.

Run as ``python -m bench.durable_steps [--seconds S] [--busy] [--postgres]``. A step is the
result of a tool, appended to its run's log and acknowledged after the disk sync. `--busy`
keeps the event loop's thread at work, as a loaded mesh does. `--postgres` starts a server of
its own, on this machine and its disk, instead of opening a SQLite file.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from itertools import count
from pathlib import Path
from uuid import uuid4

import uvloop

from servers.agents.adapters.opening import open_stores
from servers.agents.ports import RunStore
from servers.domain.runs import Run, RunEvent, RunState, ToolReturned
from tests.postgres_server import PostgresServer, postgres_server

RESULT = ToolReturned("1", "search", "x" * 300)


async def one_run(runs: RunStore, run_id: str, until: float, waits: list[float]) -> None:
    run = Run(run_id, "default", "agent", "1", run_id, RunState.RUNNING, "a question")
    await runs.create(run)
    for sequence in count(1):
        if (started := time.perf_counter()) >= until:
            return
        await runs.append(run_id, [RunEvent(run_id, sequence, started, RESULT)])
        waits.append(time.perf_counter() - started)


async def busy(until: float) -> None:
    while time.perf_counter() < until:
        sum(range(5_000))  # about 0.1 ms of Python between two looks at the loop
        await asyncio.sleep(0)


@asynccontextmanager
async def opened(server: PostgresServer | None) -> AsyncIterator[RunStore]:
    dsn = server.schema() if server else ""
    with tempfile.TemporaryDirectory() as folder:
        async with open_stores(Path(folder), time.time, lambda: uuid4().hex, dsn=dsn) as stores:
            yield stores.runs


async def measure(
    concurrency: int, seconds: float, loaded: bool, server: PostgresServer | None
) -> None:
    waits: list[float] = []
    async with opened(server) as runs:
        until = time.perf_counter() + seconds
        cpu = time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for run in range(concurrency):
                tasks.create_task(one_run(runs, f"r{run}", until, waits))
            if loaded:
                tasks.create_task(busy(until))
        cpu = time.process_time() - cpu
    waits = sorted(waits) or [float("inf")]
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    print(
        f"{concurrency:4d} at once{' (busy loop)' if loaded else '':12}  "
        f"{len(waits) / seconds:9,.0f} steps/s   p50 {p50 * 1e3:6.2f} ms   "
        f"p99 {p99 * 1e3:6.2f} ms   {cpu / len(waits) * 1e6:5.0f} us CPU"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--postgres", action="store_true")
    arguments = parser.parse_args()
    with postgres_server() if arguments.postgres else nullcontext() as server:
        for concurrency in (1, 16, 32, 128):
            uvloop.run(measure(concurrency, arguments.seconds, arguments.busy, server))


if __name__ == "__main__":
    main()
