"""A tree of runs on which two processes work, over one database."""

import asyncio
import contextlib

import pytest

from servers.domain.run_events import SubRunStarted
from servers.domain.runs import Decision, RunFilter, RunRequest, RunState, Verdict
from tests.patience import PROMPTLY
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server
from tests.unit.agents.troubled import FULL, HANGS, ME, World, ended, seen

ASK = RunRequest("lead", "what is new?")
LEADS = Reply((), calls=[Call("worker", '{"query": "find out"}')]), Reply(("All is well",))
PAYS = [{"name": "calculator", "requires_approval": True}]
SUM = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])
APPROVE = Decision("", Verdict.APPROVE)
LEASE = 600.0  # seconds that no test waits for


@pytest.fixture
def world(tmp_path, postgres):
    """Two runtimes with `lead` and its sub-agent `worker`, and the model of the worker."""

    @contextlib.asynccontextmanager
    async def made(*works, lease=LEASE, **worker):
        dsn = postgres.schema()
        async with (
            openai_server(*LEADS) as above,
            openai_server(*works) as below,
            contextlib.AsyncExitStack() as stack,
        ):
            runtimes, stores = [], []
            for name in ("one", "two"):
                folder = tmp_path / name
                tools = [{"name": "worker", "type": "agent"}]
                lead = agent("lead", above.endpoint, tools=tools)
                write_agents(folder, lead, agent("worker", below.endpoint, **worker))
                here = World(folder, below, dsn, lease)
                runtime, store = await stack.enter_async_context(here.runtime())
                runtimes.append(runtime)
                stores.append(store)
            yield *runtimes, below, stores

    return made


async def child_of(runtime, run):
    (child,) = (await runtime.list_runs(ME, RunFilter(parent=run.id))).runs
    return child


class TestTwoProcesses:
    async def test_an_approval_in_one_lets_the_tree_of_the_other_end(self, world):
        async with world(SUM, Reply(("It is 5",)), tools=PAYS) as (one, two, below, _):
            run = await one.run(ME, ASK)
            child = await child_of(two, run)
            await two.resume(ME, child.id, APPROVE)
            assert (await ended(one, run.id)).answer == "All is well"
        assert len(below.requests) == 2

    async def test_a_cancel_in_one_ends_a_tree_at_work_in_the_other(self, world):
        async with world(HANGS) as (one, two, below, _):
            run = await one.create_run(ME, ASK)
            await below.asked.wait()
            gone = await two.cancel(ME, run.id, "enough")
            await asyncio.wait_for(below.left.wait(), PROMPTLY)
            child = await child_of(two, run)
        assert (gone.state, child.state) == (RunState.CANCELLED, RunState.CANCELLED)

    async def test_a_cancel_of_a_waiting_parent_ends_its_sub_agent_that_works_elsewhere(
        self, world
    ):
        async with world(SUM, HANGS, tools=PAYS) as (one, two, below, _):
            run = await one.run(ME, ASK)
            child = await child_of(two, run)
            below.asked.clear()
            await two.resume(ME, child.id, APPROVE)
            await below.asked.wait()
            assert (await one.cancel(ME, run.id)).state is RunState.CANCELLED
            await asyncio.wait_for(below.left.wait(), PROMPTLY)
            assert (await ended(one, child.id)).state is RunState.CANCELLED

    async def test_a_tree_of_one_that_died_is_finished_by_the_other(self, world):
        died = world(HANGS, Reply(("Nothing",)), lease=2.0)
        async with died as (one, two, below, stores):
            run = await one.create_run(ME, ASK)
            await below.asked.wait()
            stores[0].errors["append"] = FULL
            one._keeper.stop()  # as if it had been stopped: nothing is renewed any more
            one._keeping.cancel()
            done = await ended(two, run.id)
            child = await child_of(two, run)
            events = await seen(two.events(ME, run.id))
        assert (done.answer, child.answer) == ("All is well", "Nothing")
        assert [e.payload.run_id for e in events if isinstance(e.payload, SubRunStarted)] == [
            child.id
        ]
