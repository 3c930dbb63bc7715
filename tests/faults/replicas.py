"""Meshes in processes of their own, which tests kill, stop and start again."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import yaml

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.run_events import Completed, RunEvent
from servers.domain.runs import Run
from servers.kernel.errors import AstromeshError
from tests.patience import PATIENCE
from tests.running import write_agents

ROOT = Path(__file__).parents[2]
ME = Caller()
LEASE = 1.0  # seconds


@dataclass
class Replica:
    """One process, over one state folder for all its lives."""

    folder: Path  # of all: configuration and effects
    name: str = "state"
    within: tuple[str, ...] = ()  # a command that the process is started by
    port: int = 0
    process: asyncio.subprocess.Process | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    async def start(self, doom: str = "") -> None:
        """Return when it serves. `doom`: see tests.faults.doomed."""
        env = os.environ | {"EFFECTS_DIR": str(self.folder), "PYTHONPATH": str(ROOT)}
        program = ["tests.faults.doomed", doom] if doom else ["servers"]
        folders = ["--config", str(self.folder / "config"), "--state", str(self.folder / self.name)]
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(*self.within, sys.executable, "-m", *program, *folders, "--grpc-port", "0"),
                stdout=PIPE,
                stderr=log,
                env=env,
                cwd=ROOT,
            )
        assert self.process.stdout
        async with asyncio.timeout(PATIENCE):
            while line := (await self.process.stdout.readline()).decode():
                if found := re.search(r"127\.0\.0\.1:(\d+)", line):
                    self.port = int(found[1])
                    return
        raise AssertionError(f"{self.name} ended: {self.log()[-3000:]}")

    def log(self) -> str:
        return (self.folder / f"{self.name}.log").read_text()

    def signal(self, number: signal.Signals) -> None:
        assert self.process
        self.process.send_signal(number)

    async def kill(self) -> None:
        if self.process and self.process.returncode is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.send_signal(signal.SIGCONT)
        await self.died()

    async def died(self) -> None:
        if self.process:
            async with asyncio.timeout(PATIENCE):
                await self.process.wait()

    @contextlib.asynccontextmanager
    async def dialled(self) -> AsyncIterator[RemoteAgents]:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self.port}") as channel:
            yield RemoteAgents(channel)


@dataclass
class Fleet:
    """Replicas over one configuration."""

    folder: Path
    replicas: list[Replica] = field(default_factory=list)

    async def add(self, doom: str = "") -> Replica:
        replica = Replica(self.folder, f"state{len(self.replicas)}")
        self.replicas.append(replica)
        await replica.start(doom)
        return replica

    def effects(self) -> Counter[str]:
        path = self.folder / "sent"
        return Counter(path.read_text().split()) if path.exists() else Counter()

    async def stop(self) -> None:
        for replica in self.replicas:
            await replica.kill()


@contextlib.asynccontextmanager
async def fleet(
    folder: Path, agents: Sequence[Mapping[str, Any]], dsn: str = "", lease: float = LEASE
) -> AsyncIterator[Fleet]:
    """`dsn`: of the PostgreSQL that its replicas share; else it can only have one."""
    config = write_agents(folder, *agents)
    runs = {"backend": "postgres", "dsn": dsn, "lease_seconds": lease} if dsn else {}
    runtime = {
        "apiVersion": "astromesh/v1",
        "kind": "RuntimeConfig",
        "metadata": {"name": "runtime"},
        "spec": {"runs": runs} if runs else {},
    }
    (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))
    made = Fleet(folder)
    try:
        yield made
    finally:
        await made.stop()


async def followed(
    replicas: Sequence[Replica], run_id: str, events: list[RunEvent], after: int = 0
) -> Run:
    """Read a run to its end, from whichever replica lives, going on with the last position
    that was seen. Gives how it ended."""
    async with asyncio.timeout(4 * PATIENCE):  # it may be taken over more than once
        turn = 0
        while True:
            replica = replicas[turn % len(replicas)]
            turn += 1
            if not replica.alive:
                await asyncio.sleep(0.05)
                continue
            with contextlib.suppress(AstromeshError):
                async with (
                    replica.dialled() as agents,
                    aclosing(agents.events(ME, run_id, after)) as source,
                ):
                    async for event in source:
                        after = event.sequence
                        events.append(event)
                        if isinstance(event.payload, Completed):
                            return event.payload.run
            await asyncio.sleep(0.05)
