"""How many durable writes a second one SQLite file takes, and how long each waits.

Run as ``python -m bench.durable_steps [--seconds S] [--busy]``. A write is one row,
acknowledged after its disk sync. `--busy` keeps the event loop's thread at work, as a
loaded mesh does.
"""

import argparse
import asyncio
import sqlite3
import tempfile
import time
from functools import partial
from pathlib import Path

import uvloop

from servers.kernel.sqlite import Database, open_database

SCHEMA = "CREATE TABLE step(run INT, seq INT, body BLOB, PRIMARY KEY(run, seq)) WITHOUT ROWID;"
BODY = b"x" * 300


def insert(row: tuple[int, int, bytes], connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO step VALUES (?, ?, ?)", row)


async def writer(db: Database, run: int, until: float, waits: list[float]) -> None:
    seq = 0
    while (started := time.perf_counter()) < until:
        seq += 1
        await db.write(partial(insert, (run, seq, BODY)))
        waits.append(time.perf_counter() - started)


async def busy(until: float) -> None:
    while time.perf_counter() < until:
        sum(range(5_000))  # about 0.1 ms of Python between two looks at the loop
        await asyncio.sleep(0)


async def measure(concurrency: int, seconds: float, loaded: bool) -> None:
    waits: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        async with open_database(Path(folder) / "bench.db", [SCHEMA]) as db:
            until = time.perf_counter() + seconds
            cpu = time.process_time()
            async with asyncio.TaskGroup() as tasks:
                for run in range(concurrency):
                    tasks.create_task(writer(db, run, until, waits))
                if loaded:
                    tasks.create_task(busy(until))
            cpu = time.process_time() - cpu
    waits.sort()
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    print(
        f"{concurrency:4d} at once{' (busy loop)' if loaded else '':12}  "
        f"{len(waits) / seconds:9,.0f} writes/s   p50 {p50 * 1e3:6.2f} ms   "
        f"p99 {p99 * 1e3:6.2f} ms   {cpu / len(waits) * 1e6:5.0f} us CPU"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--busy", action="store_true")
    arguments = parser.parse_args()
    for concurrency in (1, 16, 32, 128):
        uvloop.run(measure(concurrency, arguments.seconds, arguments.busy))


if __name__ == "__main__":
    main()
