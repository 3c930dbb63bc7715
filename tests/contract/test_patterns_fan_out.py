"""The pattern parallel_fan_out, in process and over the wire."""

import asyncio
import json

import pytest

from servers.domain.run_events import ModelReplied
from servers.domain.runs import StopReason
from servers.kernel.errors import Unavailable
from tests.contract.pattern_fixture import (
    ASK,
    ME,
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
FAN_OUT = {"pattern": "parallel_fan_out"}
SYNTHESIS = "Write the final answer"
ANSWERS = {
    SYNTHESIS: says("All done."),
    "Divide it": says('{"subtasks": ["look", "listen", "taste"]}'),
    "rest]\nlook": says("red"),
    "rest]\nlisten": says("quiet"),
    "rest]\ntaste": says("sweet"),
}


class TestAFanOut:
    async def test_works_on_every_subtask_and_puts_the_results_together(self, world):
        async with world(ANSWERS, orchestration=FAN_OUT) as (agents, model):
            run = await agents.run(ME, ASK)
        assert (run.answer, run.stop_reason) == ("All done.", StopReason.ANSWER)
        assert len(model.requests) == 5
        synthesis = last_of(model.requests[-1])
        assert "1. look\nred\n\n2. listen\nquiet\n\n3. taste\nsweet" in synthesis

    @pytest.mark.parametrize(("most", "asked"), [(2, 2), (None, 3)])
    async def test_works_on_as_many_at_once_as_the_agent_allows(self, world, most, asked):
        go = asyncio.Event()
        held = {words: Reply(("x",), hold=go) for words in ANSWERS if "rest]" in words}
        orchestration = {**FAN_OUT, "max_parallel": most}
        async with world({**ANSWERS, **held}, orchestration=orchestration) as (agents, model):
            run = await agents.create_run(ME, ASK)
            await requests(model, 1 + asked)
            await asyncio.sleep(0.05)
            assert len(model.requests) == 1 + asked
            go.set()
            assert (await told(agents.events(ME, run.id)))[-1].payload.run.answer == "All done."

    async def test_reports_a_branch_that_failed_and_keeps_the_others(self, world):
        answers = {**ANSWERS, "rest]\nlisten": refuses(500, "deaf")}
        async with world(answers, orchestration=FAN_OUT) as (agents, model):
            events = await told(agents.stream(ME, ASK))
        assert events[-1].payload.run.answer == "All done."
        synthesis = last_of(model.requests[-1])
        assert ("2. listen\nFAILED: " in synthesis, "sweet" in synthesis) == (True, True)
        assert {node: failed for node, (*_, failed) in parts(events).items()} == {
            "plan": False,
            "1": False,
            "2": True,
            "3": False,
        }

    async def test_fails_where_every_branch_has_failed(self, world):
        answers = {"Divide it": ANSWERS["Divide it"]}
        async with world(answers, refuses(500), orchestration=FAN_OUT) as (agents, _):
            with pytest.raises(Unavailable):
                await agents.run(ME, ASK)

    async def test_works_on_the_question_itself_where_there_is_nothing_to_divide(self, world):
        async with world({SYNTHESIS: says("done")}, orchestration=FAN_OUT) as (agents, model):
            await agents.run(ME, ASK)
        assert [last_of(each) for each in model.requests][1] == "How far is the moon?"
        assert len(model.requests) == 3

    async def test_asks_planner_executor_and_synthesizer(self, world):
        roles = {"planner": "p", "executor": "e", "synthesizer": "s"}
        async with world(ANSWERS, roles=roles, orchestration=FAN_OUT) as (agents, model):
            await agents.run(ME, ASK)
        assert [each.body["model"] for each in model.requests] == ["p", "e", "e", "e", "s"]

    async def test_has_the_form_that_its_answer_is_to_fit(self, world):
        schema = {"type": "object", "properties": {"fine": {"type": "boolean"}}}
        answers = {**ANSWERS, SYNTHESIS: says('{"fine": true}')}
        spec = {"orchestration": FAN_OUT, "output_schema": schema}
        async with world(answers, **spec) as (agents, _):
            run = await agents.run(ME, ASK)
        assert json.loads(run.answer) == {"fine": True}

    async def test_is_told_with_its_branches(self, world):
        async with world(ANSWERS, orchestration=FAN_OUT) as (agents, _):
            events = await told(agents.stream(ME, ASK))
        assert parts(events) == {
            "plan": ("", "step", "plan", False),
            "1": ("", "branch", "look", False),
            "2": ("", "branch", "listen", False),
            "3": ("", "branch", "taste", False),
        }
        replies = payloads(events, ModelReplied)
        assert (replies[0].node, replies[-1].node) == ("plan", "")
        assert {reply.node for reply in replies[1:-1]} == {"1", "2", "3"}
