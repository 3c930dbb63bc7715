"""Runs of several parts whose process stops: what is done is not done again."""

import asyncio
import json

import pytest

from servers.domain.run_events import ModelReplied
from servers.domain.runs import RunRequest
from tests.patience import PATIENCE
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply, Then, refuses
from tests.scripted.knowing_server import knowing_server, last_of
from tests.scripted.openai_server import openai_server
from tests.unit.agents.troubled import ME, World, ended, seen

ASK = RunRequest("helper", "How far?")
HANGS = Reply((), then=Then.HANG)
PLAN = [{"id": i, "task": f"ask {i}"} for i in "abc"]
PLAN[2]["depends_on"] = ["a", "b"]
DONE = "Write the final answer"


def only(words):
    return f"step only]\nask {words}"


@pytest.fixture
def planning(tmp_path):
    """A world whose agent plans, on a model that answers by what it is asked."""

    def made(answers):
        return knowing_server(
            {"make a plan": Reply((json.dumps(PLAN),)), DONE: Reply(("done",)), **answers},
            refuses(400),
        )

    def world(model, **orchestration):
        orchestration = {"pattern": "plan_and_execute", **orchestration}
        write_agents(tmp_path, agent("helper", model.endpoint, orchestration=orchestration))
        return World(tmp_path, model)

    return made, world


async def asked(model, number):
    async with asyncio.timeout(PATIENCE):
        while len(model.requests) < number:
            model.asked.clear()
            await model.asked.wait()


async def replied(runtime, run_id, number):
    """Return when so many model calls have ended."""
    async for event in runtime.events(ME, run_id):
        number -= isinstance(event.payload, ModelReplied)
        if not number:
            return


class TestAPlanThatWasCutOff:
    async def test_goes_on_with_the_steps_that_are_not_done(self, planning):
        made, world = planning
        answers = {
            only("a"): [HANGS, Reply(("A",))],
            only("b"): Reply(("B",)),
            only("c"): Reply(("C",)),
        }
        async with made(answers) as model:
            here = world(model)
            async with here.runtime() as (runtime, _):
                run = await runtime.create_run(ME, ASK)
                await replied(runtime, run.id, 2)  # the plan, and b: the later one
            assert len(model.requests) == 3
            async with here.runtime() as (runtime, _):
                assert (await ended(runtime, run.id)).answer == "done"
                events = await seen(runtime.events(ME, run.id))
        again = [last_of(each).splitlines()[3] for each in model.requests[3:5]]
        assert again == ["ask a", "ask c"]
        assert len(model.requests) == 6
        assert "B" in last_of(model.requests[4])
        nodes = [e.payload.node for e in events if isinstance(e.payload, ModelReplied)]
        assert nodes == ["plan", "1.b", "1.a", "1.c", ""]

    async def test_keeps_to_what_had_failed(self, planning):
        made, world = planning
        answers = {
            only("a"): HANGS,
            only("b"): [refuses(400), Reply(("B",))],
        }
        async with made(answers) as model:
            here = world(model)
            async with here.runtime() as (runtime, _):
                run = await runtime.create_run(ME, ASK)
                await asked(model, 3)
                async for event in runtime.events(ME, run.id):
                    if type(event.payload).__name__ == "BranchEnded" and event.payload.failure:
                        break
            model.dialect.answers[only("a")] = Reply(("A",))
            async with here.runtime() as (runtime, _):
                assert (await ended(runtime, run.id)).answer == "done"
        synthesis = last_of(model.requests[-1])
        assert ("A" in synthesis, "2. ask b\nFAILED" in synthesis) == (True, True)
        assert len(model.requests) == 5  # plan, a, b; then a again and the answer

    async def test_goes_on_step_by_step_however_often_it_stops(self, planning):
        made, world = planning
        one_at_a_time = {only(i): [HANGS, Reply((i.upper(),))] for i in "abc"}
        async with made(one_at_a_time) as model:
            here = world(model, max_parallel=1)
            async with here.runtime() as (runtime, _):
                run = await runtime.create_run(ME, ASK)
                await asked(model, 2)
            for number in (4, 6):
                async with here.runtime():
                    await asked(model, number)
            async with here.runtime() as (runtime, _):
                assert (await ended(runtime, run.id)).answer == "done"
        tasks = [last_of(each).splitlines()[3] for each in model.requests[1:-1]]
        assert tasks == [f"ask {i}" for i in "aabbcc"]


class TestAConversationThatWasHandedOver:
    async def test_stays_with_whom_it_was(self, tmp_path):
        move = Reply((), calls=[Call("transfer_to_billing", "{}")])
        async with openai_server(move) as front, openai_server(HANGS, Reply(("It is 5",))) as back:
            team = [{"name": "billing", "type": "agent"}]
            swarm = {"tools": team, "orchestration": {"pattern": "swarm"}}
            write_agents(
                tmp_path,
                agent("helper", front.endpoint, **swarm),
                agent("billing", back.endpoint),
            )
            here = World(tmp_path, front)
            async with here.runtime() as (runtime, _):
                run = await runtime.create_run(ME, ASK)
                await asked(back, 1)
            async with here.runtime() as (runtime, _):
                run = await ended(runtime, run.id)
        assert (run.answer, run.answered_by) == ("It is 5", "billing")
        assert (len(front.requests), len(back.requests)) == (1, 2)
