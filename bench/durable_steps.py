"""How many durable steps a second the run log takes, and how long each waits.

Run as ``python -m bench.durable_steps [--seconds S] [--rounds N]``. A step is the result of a
tool, appended to its run's log and acknowledged after the disk sync, in SQLite and in
PostgreSQL; beside it a step of a LangGraph graph with `durability="sync"` and LangGraph's own
Postgres saver, on the same server. All take turns, round by round.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from itertools import count
from pathlib import Path
from uuid import uuid4

import uvloop

from bench.environments import made
from bench.processes import ROOT
from bench.report import Spread, table, write
from servers.agents.adapters.opening import open_stores
from servers.agents.ports import RunStore, Stores
from servers.domain.run_events import RunEvent, ToolReturned
from servers.domain.runs import Run, RunState
from tests.postgres_server import postgres_server

RESULT = ToolReturned("1", "search", "x" * 300)
AT_ONCE = (1, 16)
LANGGRAPH = (
    "langgraph==1.2.22",
    "langgraph-checkpoint-postgres==3.2.0",
    "psycopg[binary,pool]==3.3.9",
)

Opened = Callable[[], AbstractAsyncContextManager[Stores]]
Figures = dict[str, float]  # rate in steps/s, p50 and p99 in seconds


async def one_run(runs: RunStore, run_id: str, until: float, waits: list[float]) -> None:
    run = Run(run_id, "default", "agent", "1", run_id, RunState.RUNNING, "a question")
    await runs.create(run)
    for sequence in count(1):
        if (started := time.perf_counter()) >= until:
            return
        await runs.append(run_id, [RunEvent(run_id, sequence, started, RESULT)])
        waits.append(time.perf_counter() - started)


async def ours(opened: Opened, at_once: int, seconds: float) -> Figures:
    waits: list[float] = []
    async with opened() as stores:
        await one_run(stores.runs, uuid4().hex, time.perf_counter() + 0.3, [])
        until = time.perf_counter() + seconds
        async with asyncio.TaskGroup() as tasks:
            for _ in range(at_once):
                tasks.create_task(one_run(stores.runs, uuid4().hex, until, waits))
    waits = sorted(waits) or [float("inf")]
    p50, p99 = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
    return {"rate": len(waits) / seconds, "p50": p50, "p99": p99}


def langgraph(python: Path, dsn: str, at_once: int, seconds: float) -> Figures:
    script = ROOT / "bench" / "subjects" / "langgraph_steps.py"
    asked = [python, script, dsn, str(at_once), str(seconds)]
    told = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    figures: Figures = json.loads(told.splitlines()[-1])
    return figures


def other() -> Path | None:
    try:
        return made("langgraph", str(Path(sys.executable).resolve()), LANGGRAPH)
    except (OSError, subprocess.CalledProcessError):
        return None


def measure(seconds: float, rounds: int) -> dict[tuple[str, int], list[Figures]]:
    found: dict[tuple[str, int], list[Figures]] = defaultdict(list)
    python = other()
    with postgres_server() as server, tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            for at_once in AT_ONCE:
                for name, dsn in (("SQLite", ""), ("PostgreSQL", server.schema())):
                    opened = partial(
                        open_stores, Path(folder), time.time, lambda: uuid4().hex, dsn=dsn
                    )
                    figures = uvloop.run(ours(opened, at_once, seconds))
                    found[name, at_once].append(figures)
                if python:
                    dsn = server.libpq()
                    found["LangGraph", at_once].append(langgraph(python, dsn, at_once, seconds))
    return found


def row(name: str, at_once: int, rounds: Sequence[Figures], other: Sequence[Figures]) -> list[str]:
    rates = Spread.of([each["rate"] for each in rounds])
    waits = [Spread.of([each[key] * 1e3 for each in rounds]).told(2) for key in ("p50", "p99")]
    pairs = zip(rounds, other, strict=True) if other else ()
    ratios = [mine["rate"] / theirs["rate"] for mine, theirs in pairs]
    times = Spread.of(ratios).told(1) if ratios and name != "LangGraph" else ""
    return [name, str(at_once), rates.told(), *waits, times]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    found = measure(arguments.seconds, arguments.rounds)
    rows = [
        row(name, at_once, rounds, found.get(("LangGraph", at_once), ()))
        for (name, at_once), rounds in sorted(found.items(), key=lambda each: each[0][1])
    ]
    columns = ["kept in", "at once", "steps/s", "p50 ms", "p99 ms", "x LangGraph"]
    table("Durable steps", columns, rows)
    write("durable_steps", [[*key, rounds] for key, rounds in found.items()])


if __name__ == "__main__":
    main()
