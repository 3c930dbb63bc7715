"""The pattern plan_and_execute, in process and over the wire."""

import asyncio
import json

import pytest

from servers.domain.run_events import BranchStarted, ModelReplied
from servers.domain.runs import Decision, RunState, StopReason, Verdict
from servers.kernel.errors import Unavailable
from tests.contract.pattern_fixture import (
    ADD,
    ASK,
    ME,
    TOOLS,
    parts,
    payloads,
    reached,
    requests,
    says,
    told,
    world,
)
from tests.scripted.http_server import Reply, refuses
from tests.scripted.knowing_server import last_of

__all__ = ["reached", "world"]
PLANS = {"pattern": "plan_and_execute"}


def plan(*steps):
    """`(id, task, *depends_on)` each."""
    return says(json.dumps([{"id": i, "task": task, "depends_on": on} for i, task, *on in steps]))


ASKS_FOR_A_PLAN, ASKS_FOR_A_NEW_PLAN = "make a plan]", "have failed]"
SYNTHESIS = "Write the final answer"
APART = plan(("a", "ask Ada"), ("b", "ask Bob"), ("c", "compare", "a", "b"))
ANSWERS = {
    SYNTHESIS: says("They agree."),
    ASKS_FOR_A_PLAN: APART,
    "step only]\nask Ada": says("Ada says 1"),
    "step only]\nask Bob": says("Bob says 1"),
    "step only]\ncompare": says("the same"),
}


class TestAPlan:
    async def test_takes_one_call_for_itself_one_a_step_and_one_for_the_answer(self, world):
        async with world(ANSWERS, orchestration=PLANS) as (agents, model):
            run = await agents.run(ME, ASK)
        assert (run.answer, run.stop_reason) == ("They agree.", StopReason.ANSWER)
        assert (len(model.requests), run.iterations) == (5, 5)

    async def test_that_is_none_is_one_step(self, world):
        answers = {SYNTHESIS: says("done"), ASKS_FOR_A_PLAN: says("I will just do it.")}
        async with world(answers, orchestration=PLANS) as (agents, model):
            run = await agents.run(ME, ASK)
        assert (run.answer, len(model.requests)) == ("done", 3)
        assert last_of(model.requests[1]) == "How far is the moon?"

    async def test_that_was_cut_is_none(self, world):
        half = '{"steps": [{"id": "a", "task": "look", "depends_on": ["b", "c"'
        answers = {SYNTHESIS: says("done"), ASKS_FOR_A_PLAN: Reply((half,), reason="length")}
        async with world(answers, orchestration=PLANS) as (agents, model):
            await agents.run(ME, ASK)
        assert [last_of(each) for each in model.requests][1:-1] == ["How far is the moon?"]

    async def test_does_steps_at_once_that_do_not_depend_on_one_another(self, world):
        go = asyncio.Event()
        held = {words: Reply(("1",), hold=go) for words in ANSWERS if "ask" in words}
        async with world({**ANSWERS, **held}, orchestration=PLANS) as (agents, model):
            run = await agents.create_run(ME, ASK)
            await requests(model, 3)  # both are asked, neither has been answered
            assert {last_of(each)[-7:] for each in model.requests[1:]} == {"ask Ada", "ask Bob"}
            go.set()
            ended = (await told(agents.events(ME, run.id)))[-1].payload.run
        assert ended.answer == "They agree."

    async def test_does_no_more_at_once_than_the_agent_allows(self, world):
        go = asyncio.Event()
        held = {words: Reply(("1",), hold=go) for words in ANSWERS if "ask" in words}
        orchestration = {**PLANS, "max_parallel": 1}
        async with world({**ANSWERS, **held}, orchestration=orchestration) as (agents, model):
            run = await agents.create_run(ME, ASK)
            await requests(model, 2)
            await asyncio.sleep(0.1)
            assert len(model.requests) == 2
            go.set()
            await told(agents.events(ME, run.id))
            assert len(model.requests) == 5

    async def test_shows_a_step_what_it_depends_on_and_nothing_else(self, world):
        async with world(ANSWERS, orchestration=PLANS) as (agents, model):
            await agents.run(ME, ASK)
        ada, bob, compare = (last_of(each) for each in model.requests[1:4])
        assert "says" not in ada + bob
        assert ("Ada says 1" in compare, "Bob says 1" in compare) == (True, True)

    async def test_asks_planner_executor_and_synthesizer(self, world):
        roles = {"planner": "p", "executor": "e", "synthesizer": "s"}
        async with world(ANSWERS, roles=roles, orchestration=PLANS) as (agents, model):
            await agents.run(ME, ASK)
        assert [each.body["model"] for each in model.requests] == ["p", "e", "e", "e", "s"]

    async def test_offers_the_tools_to_its_steps_alone(self, world):
        answers = {
            SYNTHESIS: says("It is 5"),
            ASKS_FOR_A_PLAN: plan(("a", "add")),
            "step only]": Reply((), calls=[ADD]),
        }
        async with world(answers, tools=TOOLS, orchestration=PLANS) as (agents, model):
            run = await agents.run(ME, ASK)
        assert ["tools" in each.body for each in model.requests] == [False, True, True, False]
        assert (last_of(model.requests[2]), run.answer) == ("5", "It is 5")
        assert "calculator" in last_of(model.requests[0])

    async def test_reports_a_step_that_uses_up_its_rounds_with_its_best(self, world):
        answers = {SYNTHESIS: says("So far"), ASKS_FOR_A_PLAN: plan(("a", "add"))}
        forever, orchestration = Reply(("Hm",), calls=[ADD]), {**PLANS, "max_iterations": 2}
        spec = {"tools": TOOLS, "orchestration": orchestration}
        async with world(answers, forever, **spec) as (agents, model):
            run = await agents.run(ME, ASK)
        assert (run.answer, len(model.requests)) == ("So far", 4)
        assert "its rounds were used up)\nHm" in last_of(model.requests[-1])

    async def test_has_the_form_that_its_answer_is_to_fit(self, world):
        schema = {"type": "object", "properties": {"same": {"type": "boolean"}}}
        answers = {**ANSWERS, SYNTHESIS: says('{"same": true}')}
        spec = {"orchestration": PLANS, "output_schema": schema}
        async with world(answers, **spec) as (agents, model):
            run = await agents.run(ME, ASK)
        assert (json.loads(run.answer), len(model.requests)) == ({"same": True}, 5)

    async def test_is_told_with_its_steps(self, world):
        async with world(ANSWERS, orchestration=PLANS) as (agents, _):
            events = await told(agents.stream(ME, ASK))
        assert parts(events) == {
            "plan": ("", "step", "plan", False),
            **{f"1.{step}": ("", "step", step, False) for step in "abc"},
        }
        assert [start.input for start in payloads(events, BranchStarted)][1:] == [
            "ask Ada",
            "ask Bob",
            "compare",
        ]
        assert [reply.node for reply in payloads(events, ModelReplied)][-1] == ""


class TestAStepThatWaits:
    async def test_lets_the_others_end_and_keeps_what_depends_on_it_waiting(self, world):
        answers = {
            **ANSWERS,
            "step only]\nask Bob": Reply((), calls=[ADD]),
            "5": says("Bob says 5"),
        }
        spec = {"tools": [{**TOOLS[0], "requires_approval": True}], "orchestration": PLANS}
        async with world(answers, **spec) as (agents, model):
            waits = await agents.run(ME, ASK)
            asked = len(model.requests)
            run = await agents.resume(ME, waits.id, Decision("", Verdict.APPROVE), wait=True)
        assert (waits.state, asked) == (RunState.WAITING_APPROVAL, 3)  # the plan, Ada and Bob
        assert (run.answer, len(model.requests)) == ("They agree.", 6)
        assert "Ada says 1" in last_of(model.requests[4])
        assert "Bob says 5" in last_of(model.requests[4])


class TestAFailedStep:
    LOST = {**ANSWERS, "step only]\nask Bob": refuses(500)}  # noqa: RUF012

    async def test_is_reported_and_what_depends_on_it_is_not_begun(self, world):
        async with world(self.LOST, orchestration=PLANS) as (agents, model):
            events = await told(agents.stream(ME, ASK))
        told_last = last_of(model.requests[-1])
        assert "2. ask Bob\nFAILED: " in told_last
        assert "FAILED: not begun, because step 'b' failed" in told_last
        assert "Ada says 1" in told_last
        failed = {node: failed for node, (*_, failed) in parts(events).items()}
        assert failed == {"plan": False, "1.a": False, "1.b": True}
        assert events[-1].payload.run.answer == "They agree."

    async def test_makes_a_new_plan_where_the_agent_says_so(self, world):
        again = plan(("a", "ask Ada"), ("d", "ask Dan", "a"))
        answers = {
            ASKS_FOR_A_NEW_PLAN: again,
            **self.LOST,
            "step only]\nask Dan": says("Dan says 1"),
        }
        async with world(answers, orchestration={**PLANS, "max_replans": 2}) as (agents, model):
            events = await told(agents.stream(ME, ASK))
        assert list(parts(events)) == ["plan", "1.a", "1.b", "plan.2", "2.d"]
        assert "Ada says 1" in last_of(model.requests[-2])  # Dan's step
        assert "Dan says 1" in last_of(model.requests[-1])

    async def test_fails_the_run_where_no_step_is_left(self, world):
        answers = {ASKS_FOR_A_PLAN: plan(("a", "one"), ("b", "two", "a"))}
        async with world(answers, refuses(500), orchestration=PLANS) as (agents, _):
            with pytest.raises(Unavailable):
                await agents.run(ME, ASK)
