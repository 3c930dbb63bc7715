"""Runs of sub-agents when the mesh stops, breaks, or is full."""

import asyncio
import contextlib
import time
from dataclasses import replace

import pytest

from servers.agents.adapters.opening import open_stores
from servers.domain.run_events import SubRunStarted, ToolReturned
from servers.domain.runs import Decision, RunFilter, RunRequest, RunState, Verdict
from tests.patience import PATIENCE
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server
from tests.unit.agents.troubled import FULL, HANGS, ME, World, ended, idle, seen

ASK = RunRequest("lead", "what is new?")
LEADS = Reply((), calls=[Call("worker", '{"query": "find out"}')]), Reply(("All is well",))
TWICE = [Call("worker", '{"query": "one"}', "a"), Call("worker", '{"query": "two"}', "b")]
PAYS = {"tools": [{"name": "calculator", "requires_approval": True}]}
SUM = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])


@pytest.fixture
def world(tmp_path):
    """`lead` with the sub-agent `worker`, each on a model of its own."""

    @contextlib.asynccontextmanager
    async def made(*works, leads=LEADS, **worker):
        async with openai_server(*leads) as above, openai_server(*works) as below:
            tools = [{"name": "worker", "type": "agent"}]
            write_agents(
                tmp_path,
                agent("lead", above.endpoint, tools=tools),
                agent("worker", below.endpoint, **worker),
            )
            here = World(tmp_path, below)
            here.above = above
            yield here

    return made


async def until(condition):
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # the model server tells nobody
            await asyncio.sleep(0.01)


async def children(runtime, run):
    return (await runtime.list_runs(ME, RunFilter(parent=run.id))).runs


async def subs(runtime, run):
    events = await seen(runtime.events(ME, run.id))
    return [each.payload for each in events if isinstance(each.payload, SubRunStarted)]


class TestWhenTheMeshIsStopped:
    async def test_both_go_on_and_the_parent_finds_the_same_run(self, world):
        async with world(HANGS, Reply(("Nothing",))) as here:
            async with here.runtime() as (runtime, _):
                run = await runtime.create_run(ME, ASK)
                await here.model.asked.wait()
            async with here.runtime() as (runtime, _):
                done = await ended(runtime, run.id)
                (child,) = await children(runtime, run)
                assert len(await subs(runtime, run)) == 1
        assert (done.answer, done.attempt, child.attempt) == ("All is well", 2, 2)
        assert (child.answer, len(here.above.requests)) == ("Nothing", 2)

    async def test_many_at_once_leave_no_result_behind(self, world):
        leads = Reply((), calls=TWICE), Reply(("All is well",))
        async with world(HANGS, HANGS, Reply(("Nothing",)), leads=leads) as here:
            async with here.runtime() as (runtime, _):
                run = await runtime.create_run(ME, ASK)
                await until(lambda: len(here.model.requests) == 2)
            async with here.runtime() as (runtime, _):
                events = await seen(runtime.events(ME, run.id))
        results = [each.payload for each in events if isinstance(each.payload, ToolReturned)]
        assert [each.content for each in results] == ["Nothing", "Nothing"]

    async def test_a_run_may_still_ask_another_agent_while_it_drains(self, world):
        go = asyncio.Event()
        leads = replace(LEADS[0], hold=go), LEADS[1]
        async with (
            world(Reply(("Nothing",)), leads=leads) as here,
            here.runtime(drain_seconds=10) as (runtime, _),
        ):
            running = asyncio.create_task(runtime.run(ME, ASK))
            await here.above.asked.wait()
            draining = asyncio.create_task(runtime.drain())
            await asyncio.sleep(0)
            go.set()
            assert (await running).answer == "All is well"
            await draining


class TestWhenTheProcessIsKilled:
    async def test_both_go_on(self, world):
        async with world(HANGS, Reply(("Nothing",))) as here:
            async with here.runtime() as (runtime, store):
                run = await runtime.create_run(ME, ASK)
                await here.model.asked.wait()
                store.errors["append"] = FULL
            async with here.runtime() as (runtime, _):
                assert (await ended(runtime, run.id)).answer == "All is well"
                (child,) = await children(runtime, run)
        assert child.answer == "Nothing"

    async def test_before_the_parent_has_noted_the_run_it_still_finds_it(self, world):
        async with world(HANGS, Reply(("Nothing",))) as here:
            async with here.runtime() as (runtime, store):
                run = await runtime.create_run(ME, ASK)
                go = store.hold("create")
                await store.reached["create"].wait()
                store.errors["append"] = FULL
                go.set()
                await here.model.asked.wait()
            async with here.runtime() as (runtime, _):
                assert (await ended(runtime, run.id)).answer == "All is well"
                (child,) = await children(runtime, run)
                (sub,) = await subs(runtime, run)
        assert sub.run_id == child.id

    async def test_a_run_whose_parent_has_ended_ends_too(self, world, tmp_path):
        async with world(HANGS) as here:
            async with here.runtime() as (runtime, store):
                run = await runtime.create_run(ME, ASK)
                await here.model.asked.wait()
                store.errors["append"] = FULL
            async with open_stores(tmp_path, time.time, lambda: "x") as stores:
                gone = replace(run, state=RunState.CANCELLED, ended_at=time.time())
                await stores.runs.append(run.id, [], gone)
            async with here.runtime() as (runtime, _):
                (child,) = await children(runtime, run)
                assert (await ended(runtime, child.id)).state is RunState.CANCELLED
        assert len(here.model.requests) == 1


class TestAnApprovalInASubAgent:
    async def test_is_given_in_another_life_of_the_mesh(self, world):
        async with world(SUM, Reply(("It is 5",)), **PAYS) as here:
            async with here.runtime() as (runtime, _):
                run = await runtime.run(ME, ASK)
                assert run.state is RunState.WAITING_RUN
            async with here.runtime() as (runtime, _):
                (child,) = await children(runtime, run)
                await runtime.resume(ME, child.id, Decision("", Verdict.APPROVE))
                assert (await ended(runtime, run.id)).answer == "All is well"
                assert await idle(runtime)
        assert len(here.model.requests) == 2

    async def test_wakes_the_parent_only_when_the_run_has_ended(self, world):
        works = SUM, SUM, Reply(("It is 5",))
        async with world(*works, **PAYS) as here, here.runtime() as (runtime, _):
            run = await runtime.run(ME, ASK)
            (child,) = await children(runtime, run)
            again = await runtime.resume(ME, child.id, Decision("", Verdict.APPROVE), wait=True)
            assert again.state is RunState.WAITING_APPROVAL
            assert (await runtime.get_run(ME, run.id)).state is RunState.WAITING_RUN
            await runtime.resume(ME, child.id, Decision("", Verdict.REJECT, "no"))
            assert (await ended(runtime, run.id)).answer == "All is well"
        assert len(here.above.requests) == 2

    async def test_holds_up_no_other_call(self, world):
        leads = Reply((), calls=TWICE), Reply(("All is well",))
        go = asyncio.Event()
        works = SUM, Reply(("Nothing",), hold=go), Reply(("It is 5",))
        async with world(*works, leads=leads, **PAYS) as here, here.runtime() as (runtime, _):
            run = await runtime.create_run(ME, ASK)
            await until(lambda: len(here.model.requests) == 2)
            await until(lambda: len(runtime._active) == 2)
            where = RunFilter(states=(RunState.WAITING_APPROVAL,))
            (asks,) = (await runtime.list_runs(ME, where)).runs
            approve = Decision("", Verdict.APPROVE)
            first = await runtime.resume(ME, asks.id, approve, wait=True)
            go.set()
            done = await ended(runtime, run.id)
        assert (first.answer, done.answer) == ("It is 5", "All is well")
        assert {"It is 5", "Nothing"} == {
            message["content"] for message in here.above.requests[1].body["messages"][-2:]
        }


class TestWhenAllPlacesAreTaken:
    async def test_a_run_hears_that_another_agent_can_not_start(self, world):
        replies = Reply(("Nothing",))
        async with world(replies) as here, here.runtime(active_runs=1) as (runtime, _):
            run = await runtime.run(ME, ASK)
        assert run.answer == "All is well"
        assert (
            "1 runs are active already" in (here.above.requests[1].body["messages"][-1]["content"])
        )
        assert here.model.requests == []

    async def test_one_that_only_waits_for_its_sub_agent_does_not_keep_that_from_being_taken_up(
        self, world
    ):
        async with world(HANGS) as here, here.runtime(active_runs=2) as (runtime, _):
            run = await runtime.create_run(ME, ASK)
            await here.model.asked.wait()
            assert runtime._active.free == 1
            await runtime.cancel(ME, run.id)
            assert await idle(runtime)
