"""What durability adds to a run, and how soon a cancelled run lets go of its model.

Run as ``python -m bench.run_costs [--runs N]``. A run of five tool calls with a model that
answers at once, of durability none, and of step in SQLite and in PostgreSQL, taking turns; then
runs whose model hangs, from CancelRun to the end of the model's connection.
"""

import argparse
import asyncio
import logging
import tempfile
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import structlog
import uvloop
import yaml

from bench.report import table, write
from servers.domain.caller import Caller
from servers.domain.runs import Durability, RunRequest
from servers.domain.services import Agents
from tests.faults.thinking import thinking
from tests.postgres_server import PostgresServer, postgres_server
from tests.running import agent, mesh_of, write_agents
from tests.scripted.http_server import Asked, Call, Reply, Then
from tests.scripted.openai_server import openai_server

ME = Caller()
STEPS = 5
SUM = '{"expression": "2+3"}'


def five_steps(asked: Asked) -> Reply:
    done = sum(message["role"] == "tool" for message in asked.body["messages"])
    return Reply((), calls=[Call("calculator", SUM)]) if done < STEPS else Reply(("It is 5",))


async def timed(agents: Agents, durability: Durability) -> float:
    began = time.perf_counter()
    await agents.run(ME, RunRequest("helper", "add", durability=durability))
    return time.perf_counter() - began


async def steps(server: PostgresServer, runs: int) -> dict[str, list[float]]:
    """Seconds of each run."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        model = await enter(thinking(five_steps))
        helper = agent("helper", model.endpoint, tools=[{"name": "calculator"}])
        meshes = {}
        for name, dsn in (("SQLite", ""), ("PostgreSQL", server.schema())):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            _configure(folder, helper, dsn)
            meshes[name] = (await enter(mesh_of(folder, helper))).agents
        sides = {
            "none": (meshes["SQLite"], Durability.NONE),
            "step in SQLite": (meshes["SQLite"], Durability.STEP),
            "step in PostgreSQL": (meshes["PostgreSQL"], Durability.STEP),
        }
        found: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(runs + 20):
            for name, side in sides.items():
                seconds = await timed(*side)
                if number >= 20:  # warm by then
                    found[name].append(seconds)
        return found


def _configure(folder: Path, helper: dict[str, Any], dsn: str) -> None:
    config = write_agents(folder, helper)
    kept = {"backend": "postgres", "dsn": dsn} if dsn else {"backend": "sqlite"}
    runtime = {
        "apiVersion": "astromesh/v1",
        "kind": "RuntimeConfig",
        "metadata": {"name": "runtime"},
        "spec": {"runs": kept},
    }
    (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))


async def cancels(runs: int) -> list[float]:
    """Seconds from CancelRun to when the model's server saw its client leave."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        async with openai_server(Reply(("Once",), then=Then.HANG)) as model:
            helper = agent("helper", model.endpoint)
            async with mesh_of(Path(folder), helper) as mesh:
                for _ in range(runs):
                    model.asked.clear()
                    model.left.clear()
                    run = await mesh.agents.create_run(ME, RunRequest("helper", "tell"))
                    await model.asked.wait()
                    await asyncio.sleep(0.005)
                    began = time.perf_counter()
                    cancelling = asyncio.create_task(mesh.agents.cancel(ME, run.id))
                    await model.left.wait()
                    found.append(time.perf_counter() - began)
                    await cancelling
    return found


def shares(seconds: Sequence[float]) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    ordered = sorted(seconds)
    return ordered[len(ordered) // 2] * 1e3, ordered[len(ordered) * 99 // 100] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    runs = parser.parse_args().runs
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)
    with postgres_server() as server:
        found = uvloop.run(steps(server, runs))
    base = shares(found["none"])[0]
    rows = []
    for name, seconds in found.items():
        p50, p99 = shares(seconds)
        rows.append([name, f"{p50:.2f}", f"{p99:.2f}", f"{p50 - base:+.2f}"])
    table(f"A run of {STEPS} steps", ["durability", "p50 ms", "p99 ms", "added p50 ms"], rows)
    cut = shares(uvloop.run(cancels(runs)))
    table(
        "Cancel to the model's connection closed", ["p50 ms", "p99 ms"], [[f"{v:.2f}" for v in cut]]
    )
    write(
        "run_costs", {"steps": {name: shares(each) for name, each in found.items()}, "cancel": cut}
    )


if __name__ == "__main__":
    main()
