"""Hundreds of streams at once, for minutes, with a fault every some seconds.

Run as ``python -m bench.soak [--streams N] [--minutes M] [--every S]``. One mesh over a real
PostgreSQL; every stream is a background run that is followed to its end, and another begins
then. Faults: the database is restarted, the models' connections are cut, all readers lose their
connections and go on with the last position they saw. Told at the end: how many runs ended how,
whether a reader missed anything, and how the memory of the mesh grew.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections import Counter
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import uvloop

from bench.report import console, table, write
from servers.domain.caller import Caller
from servers.domain.run_events import Completed, RunEvent
from servers.domain.runs import RunRequest
from servers.kernel.errors import AstromeshError
from tests.faults.replicas import Fleet, Replica, fleet
from tests.faults.thinking import thinking
from tests.postgres_server import PostgresServer, postgres_server
from tests.running import agent
from tests.scripted.http_server import Asked, Reply, ScriptedServer

ME = Caller()
PIECES = tuple(f"word{number} " for number in range(10))
PAUSE = 1.0  # seconds before each piece
WARM = 60.0  # seconds until memory is looked at
# When all connections are cut at once a breaker would keep runs from models for a minute.
PROVIDERS = """
apiVersion: astromesh/v1
kind: ProviderConfig
metadata: {name: providers}
spec:
  providers: {}
  routing: {circuit_breaker: {failure_threshold: 1000000}}
"""


@dataclass
class Soak:
    replica: Replica
    until: float
    ends: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    readers: set[asyncio.Task[None]] = field(default_factory=set)

    async def stream(self, name: str) -> None:
        number = 0
        while time.monotonic() < self.until:
            number += 1
            work = RunRequest("helper", f"{name}-{number}", request_id=f"{name}-{number}")
            run_id = await self._started(work)
            seen: list[RunEvent] = []
            while not (seen and isinstance(seen[-1].payload, Completed)):
                reader = asyncio.create_task(self._read(run_id, seen))
                self.readers.add(reader)
                with suppress(asyncio.CancelledError):
                    await reader
                self.readers.discard(reader)
            self._check(seen)

    async def _started(self, work: RunRequest) -> str:
        while True:
            with suppress(AstromeshError):
                async with self.replica.dialled() as agents:
                    return (await agents.create_run(ME, work)).id
            await asyncio.sleep(0.2)

    async def _read(self, run_id: str, seen: list[RunEvent]) -> None:
        after = seen[-1].sequence if seen else 0
        with suppress(AstromeshError):
            async with (
                self.replica.dialled() as agents,
                aclosing(agents.events(ME, run_id, after)) as events,
            ):
                async for event in events:
                    seen.append(event)

    def _check(self, seen: list[RunEvent]) -> None:
        end = seen[-1].payload
        assert isinstance(end, Completed)
        self.ends[end.run.state.value] += 1
        sequences = [event.sequence for event in seen]
        if sequences != sorted(set(sequences)):
            self.wrong["out of order"] += 1
        if end.run.state.value == "completed" and end.run.answer != "".join(PIECES):
            self.wrong["another answer"] += 1

    async def trouble(
        self, server: PostgresServer, model: ScriptedServer, every: float, chance: random.Random
    ) -> None:
        while self.until - time.monotonic() > every:
            await asyncio.sleep(every)
            fault = chance.choice(("database restarted", "models cut", "readers cut"))
            self.faults[fault] += 1
            if fault == "database restarted":
                await asyncio.to_thread(server.restart)
            elif fault == "models cut":
                for connection in list(model._open):
                    connection.cut()
            else:
                for reader in list(self.readers):
                    reader.cancel()

    async def memory(self) -> list[tuple[float, float]]:
        """Seconds and MB, every two seconds."""
        assert self.replica.process
        process, began = psutil.Process(self.replica.process.pid), time.monotonic()
        found = []
        while time.monotonic() < self.until:
            found.append((time.monotonic() - began, process.memory_info().rss / 1e6))
            await asyncio.sleep(2)
        return found


def told(asked: Asked) -> Reply:
    return Reply(PIECES, pause=PAUSE)


async def measured(
    there: Fleet, server: PostgresServer, model: ScriptedServer, o: argparse.Namespace
) -> Soak:
    soak = Soak(await there.add(), time.monotonic() + o.minutes * 60)
    async with asyncio.TaskGroup() as tasks:
        for number in range(o.streams):
            tasks.create_task(soak.stream(f"s{number}"))
        tasks.create_task(soak.trouble(server, model, o.every, random.Random(o.seed)))
        memory = tasks.create_task(soak.memory())
    rows = [*soak.ends.items(), *soak.faults.items(), *soak.wrong.items()]
    table("A soak", ["what", "times"], [[name, str(count)] for name, count in rows])
    warm = [each for each in memory.result() if each[0] > min(WARM, o.minutes * 20)]
    slope = statistics.linear_regression(*zip(*warm, strict=True)).slope * 60
    console.print(f"memory: {warm[0][1]:.0f} -> {warm[-1][1]:.0f} MB, {slope:+.2f} MB a minute")
    write("soak", {"ends": soak.ends, "faults": soak.faults, "wrong": soak.wrong, "slope": slope})
    return soak


async def run(options: argparse.Namespace) -> None:
    with postgres_server() as server, tempfile.TemporaryDirectory() as folder:
        async with thinking(told) as model:
            helper = agent("helper", model.endpoint)
            async with fleet(Path(folder), [helper], server.schema(), lease=15.0) as there:
                (Path(folder) / "config" / "providers.yaml").write_text(PROVIDERS)
                await measured(there, server, model, options)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--every", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=1)
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
