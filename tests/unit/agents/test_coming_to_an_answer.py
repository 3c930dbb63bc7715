"""Runs that end while their answer is being kept: what is in a conversation has been said by a
run that is completed, and by no other."""

import time
from dataclasses import replace

import pytest

from servers.agents.adapters.opening import open_stores
from servers.domain.episodes import EpisodeFilter, EpisodeOutcome, EpisodeType
from servers.domain.memory import SessionKey
from servers.domain.runs import Durability, RunRequest, RunState
from tests.scripted.http_server import Call, Reply
from tests.unit.agents.test_sub_runs import children
from tests.unit.agents.test_sub_runs import world as leading
from tests.unit.agents.troubled import FULL, IN_SESSION, ME, ended, idle, settled

__all__ = ["leading"]

KEPT = {"conversational": {"backend": "sqlite"}}
TOLD = {"episodic": {"backend": "sqlite"}}
LEAD = RunRequest("lead", "what is new?")
ASKS = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])
CAREFUL = [{"name": "calculator", "requires_approval": True}]


async def turns(here) -> int:
    return len((await here.memory.turns(SessionKey(ME.tenant, "helper", "s"))).turns)


@pytest.mark.parametrize("durability", list(Durability))
async def test_a_run_that_is_cancelled_while_its_answer_is_kept_is_completed(world, durability):
    async with world(memory=KEPT) as here, here.runtime() as (runtime, _):
        go = here.memory.delay("append")
        run = await runtime.create_run(ME, replace(IN_SESSION, durability=durability))
        await here.memory.done["append"].wait()
        runtime._active.get(ME.tenant, run.id).cancel("too late")
        await settled()
        go.set()
        assert (await ended(runtime, run.id)).state is RunState.COMPLETED
        assert await turns(here) == 2


async def test_a_run_whose_answer_is_being_kept_does_not_run_out_of_time(world):
    async with world(memory=KEPT) as here, here.runtime() as (runtime, _):
        go = here.memory.hold("append")
        run = await runtime.create_run(ME, IN_SESSION)
        await here.memory.reached["append"].wait()
        assert runtime._active.get(ME.tenant, run.id).remaining is None
        go.set()
        assert (await ended(runtime, run.id)).state is RunState.COMPLETED


async def test_a_run_that_is_cancelled_before_leaves_nothing_in_its_conversation(world):
    async with world(memory=KEPT) as here, here.runtime() as (runtime, store):
        run = await runtime.create_run(ME, IN_SESSION)
        go = store.hold("append")
        await store.reached["append"].wait()
        execution = runtime._active.get(ME.tenant, run.id)
        execution.cancel("in time")
        await settled()
        go.set()
        assert (await ended(runtime, run.id)).state is RunState.CANCELLED
        assert await turns(here) == 0


@pytest.mark.parametrize("durability", [Durability.EXIT, Durability.STEP])
async def test_a_run_that_dies_while_its_answer_is_kept_is_completed_afterwards(world, durability):
    async with world(memory=KEPT) as here:
        async with here.runtime() as (runtime, store):
            go = here.memory.delay("append")
            run = await runtime.create_run(ME, replace(IN_SESSION, durability=durability))
            await here.memory.done["append"].wait()
            store.errors["append"] = FULL  # it is as if nothing came after
            go.set()
            assert await idle(runtime)
        async with here.runtime() as (runtime, _):
            done = await ended(runtime, run.id)
            assert await turns(here) == 2
    assert (done.state, done.answer) == (RunState.COMPLETED, "Hello there")
    assert (len(here.model.requests), done.usage[0].calls, done.iterations) == (1, 1, 1)


async def test_such_a_run_of_a_sub_agent_is_completed_though_its_parent_has_ended(
    leading, tmp_path
):
    async with leading(Reply(("Nothing",)), memory=KEPT) as here:
        async with here.runtime() as (runtime, store):
            go = here.memory.delay("append")
            run = await runtime.create_run(ME, LEAD)
            await here.memory.done["append"].wait()
            store.errors["append"] = FULL
            go.set()
        await cancelled(tmp_path, run)
        async with here.runtime() as (runtime, _):
            (child,) = await children(runtime, run)
            assert (await ended(runtime, child.id)).state is RunState.COMPLETED


async def test_the_episode_of_a_run_that_ends_with_its_parent_says_so(leading, tmp_path):
    """It had said that the run succeeded, and the process stopped before the end was written."""
    async with leading(Reply(("Nothing",)), memory=TOLD) as here:
        async with here.runtime() as (runtime, store):
            run = await runtime.create_run(ME, LEAD)
            await here.model.asked.wait()
            store.errors["append"] = FULL
            while not (told := await outcomes(here)):
                await settled()
        assert told == [EpisodeOutcome.SUCCEEDED]
        await cancelled(tmp_path, run)
        async with here.runtime() as (runtime, _):
            (child,) = await children(runtime, run)
            assert (await ended(runtime, child.id)).state is RunState.CANCELLED
            assert await outcomes(here) == [EpisodeOutcome.CANCELLED]


async def outcomes(here):
    found = await here.memory.episodes.list(EpisodeFilter(ME.tenant, "worker"))
    return [each.outcome for each in found.episodes if each.type is EpisodeType.RUN]


async def cancelled(folder, run) -> None:
    """By somebody, while no process works on it."""
    async with open_stores(folder, time.time, lambda: "x") as stores:
        gone = replace(run, state=RunState.CANCELLED, ended_at=time.time())
        await stores.runs.append(run.id, [], gone)


async def test_a_run_that_can_not_be_left_waiting_has_failed(world):
    """Of durability `exit` nothing is on record that another process could take up."""
    async with world(ASKS, tools=CAREFUL) as here, here.runtime() as (runtime, store):
        store.errors["create"] = FULL
        request = RunRequest("helper", "hello?", durability=Durability.EXIT)
        events = [event async for event in runtime.stream(ME, request)]
        done = events[-1].payload.run
        assert (done.state, done.failure.reason) == (RunState.FAILED, "DISK_FULL")
        assert (await runtime.get_run(ME, done.id)).state is RunState.FAILED
