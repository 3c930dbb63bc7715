"""A process that is killed at every boundary between two writes of a run's log."""

import asyncio
import contextlib

import pytest

from servers.domain.run_events import Completed
from servers.domain.runs import RunFilter, RunRequest, RunState
from servers.kernel.errors import AstromeshError
from tests.faults.replicas import ME, Replica, fleet, followed
from tests.faults.thinking import mails, thinking
from tests.patience import PATIENCE
from tests.running import agent

TOOLS = [{"name": "send_mail", "function": "tests.faults.effects:send_mail"}]
_ALL = RunFilter()
# A run with two mails has six writes, or fewer where two came together.
BOUNDARIES = [f"{when}:{count}" for count in range(1, 7) for when in ("before", "after")]


async def accepted(replica: Replica, run: RunRequest) -> bool:
    """Whether the caller was told that the run is on record."""
    async with replica.dialled() as agents:
        try:
            await agents.create_run(ME, run)
        except AstromeshError:
            return False
        return True


async def dead_or_done(replica: Replica, was_accepted: bool) -> None:
    """Until it has died, or has done all without coming to its boundary."""
    async with asyncio.timeout(PATIENCE):
        while replica.alive:
            await asyncio.sleep(0.05)
            with contextlib.suppress(AstromeshError):
                async with replica.dialled() as agents:
                    runs = (await agents.list_runs(ME, _ALL)).runs
                if was_accepted and runs and runs[0].state.terminal:
                    return


@pytest.mark.parametrize("boundary", BOUNDARIES)
async def test_a_run_ends_once_and_has_no_effect_twice(tmp_path, boundary):
    work = RunRequest("helper", "ada", request_id="r-1")
    async with thinking(mails(2)) as model:
        manifest = agent("helper", model.endpoint, tools=TOOLS)
        async with fleet(tmp_path, [manifest]) as victims:
            replica = Replica(tmp_path)
            victims.replicas.append(replica)
            await replica.start(boundary)
            was_accepted = await accepted(replica, work)
            await dead_or_done(replica, was_accepted)
            await replica.kill()
            await replica.start()
            async with replica.dialled() as agents:
                page = await agents.list_runs(ME, _ALL)
                assert len(page.runs) == 1 or not was_accepted
                run = await agents.create_run(ME, work)  # the same one, where it was accepted
            events = []
            ended = await followed([replica], run.id, events)
            effects = victims.effects()
    assert ended.state is RunState.COMPLETED
    assert [type(e.payload) for e in events].count(Completed) == 1
    assert set(effects.values()) <= {1}
    assert set(effects) <= {"ada-0", "ada-1"}
