"""Several processes over one PostgreSQL, and whatever may happen to them, at random.

`ASTROMESH_FAULT_SEEDS` says how many times: ten here, a hundred with `make faults`.
"""

import asyncio
import contextlib
import os
import random
import signal

import pytest

from servers.domain.run_events import Completed, TextDelta, ToolReturned
from servers.domain.runs import RunRequest, RunState
from servers.domain.tools import Outcome
from servers.kernel.errors import AstromeshError
from tests.faults.replicas import LEASE, ME, Fleet, Replica, fleet, followed
from tests.faults.thinking import mails, thinking
from tests.patience import PATIENCE
from tests.running import agent

SEEDS = range(int(os.environ.get("ASTROMESH_FAULT_SEEDS", "10")))
STEPS = 4
RUNS = 12
MOST = 8  # troubles
TOOLS = [{"name": "send_mail", "function": "tests.faults.effects:send_mail"}]

pytestmark = pytest.mark.timeout(600)


class Troubles(asyncio.Event):
    """What has happened so far; the event is that the runs may end."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def add(self, trouble: str) -> str:
        self.seen.append(trouble)
        if len(self.seen) == 2:
            self.set()
        return trouble


async def accepted(replicas: list[Replica], chance: random.Random, name: str) -> str:
    """Start a run on whichever process takes it, asking again as a careful caller does."""
    work = RunRequest("helper", name, request_id=name)
    async with asyncio.timeout(4 * PATIENCE):
        while True:
            replica = chance.choice(replicas)
            if replica.alive:
                with contextlib.suppress(AstromeshError, TimeoutError):
                    async with asyncio.timeout(5), replica.dialled() as agents:
                        return (await agents.create_run(ME, work)).id
            await asyncio.sleep(0.05)


async def trouble(
    there: Fleet, postgres, chance: random.Random, over: asyncio.Event, troubles: Troubles
) -> None:
    """Kill, stop and start again, until the runs are over; all lives when this returns.

    Not for ever: on a machine that is slow to start a process they would never get on."""
    while not over.is_set() and len(troubles.seen) < MOST:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(chance.uniform(0.1, 0.8)):
                await over.wait()
        match troubles.add(chance.choice(("kill", "kill", "freeze", "restart the database"))):
            case "kill":
                victim = chance.choice(there.replicas)
                await victim.kill()
                await victim.start()
            case "freeze":
                victim = chance.choice(there.replicas)
                victim.signal(signal.SIGSTOP)
                await asyncio.sleep(chance.uniform(0.5, 2.5) * LEASE)
                victim.signal(signal.SIGCONT)
            case _:
                await asyncio.to_thread(postgres.restart)


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_run_ends_once_and_nothing_happens_twice(tmp_path, postgres, seed):
    chance = random.Random(seed)
    logs = [[] for _ in range(RUNS)]
    troubles = Troubles()
    model_of = mails(STEPS, pause=lambda: chance.uniform(0.1, 0.4), hold=troubles)
    async with thinking(model_of) as model:
        manifest = agent("helper", model.endpoint, tools=TOOLS)
        async with fleet(tmp_path, [manifest], postgres.schema()) as there:
            await asyncio.gather(there.add(), there.add())
            over = asyncio.Event()
            troubling = asyncio.create_task(trouble(there, postgres, chance, over, troubles))
            names = [f"s{seed}r{number}" for number in range(RUNS)]
            ids = await asyncio.gather(*(accepted(there.replicas, chance, n) for n in names))
            ends = await asyncio.gather(
                *(followed(there.replicas, *each) for each in zip(ids, logs, strict=True))
            )
            over.set()
            await troubling
            whole = [[] for _ in ids]
            for run_id, log in zip(ids, whole, strict=True):
                await followed(there.replicas, run_id, log)
            effects = there.effects()
    assert set(effects.values()) <= {1}
    for name, seen, stored, end in zip(names, logs, whole, ends, strict=True):
        check(name, seen, stored, end, effects)


def check(name, seen, stored, end, effects) -> None:
    """What a reader saw who lost his connection again and again, and what happened."""
    assert end.state is RunState.COMPLETED, (name, end)
    sequences = [event.sequence for event in seen]
    assert sequences == sorted(set(sequences)), name
    assert [type(e.payload) for e in stored].count(Completed) == 1, name
    assert told(stored) <= told(seen), name
    unknown = [
        e.payload
        for e in stored
        if isinstance(e.payload, ToolReturned) and e.payload.outcome is Outcome.UNKNOWN
    ]
    sent = {f"{name}-{step}" for step in range(STEPS)} & set(effects)
    assert len(sent) + len(unknown) >= STEPS, name  # each mail was sent, or nobody knows


def told(events) -> set[int]:
    """The steps on record. Text may be void: its model call was made again then."""
    return {e.sequence for e in events if not isinstance(e.payload, TextDelta)}
