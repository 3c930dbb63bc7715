"""The pipeline pattern, in process and over the wire."""

import json

import pytest

from servers.domain.run_events import ModelReplied, TextDelta, ToolCalled
from servers.domain.runs import StopReason
from servers.kernel.errors import Unavailable
from tests.contract.pattern_fixture import (
    ADD,
    ASK,
    ME,
    TOOLS,
    parts,
    payloads,
    reached,
    says,
    told,
    world,
)
from tests.scripted.http_server import Call, Reply, refuses
from tests.scripted.knowing_server import last_of

__all__ = ["reached", "world"]
PIPELINE = {"pattern": "pipeline"}
THREE = {
    "analyze]": says("a distance"),
    "process]": says("384,400 km"),
    "synthesize]": says("It is ", "384,400 km away"),
}


class TestAPipeline:
    async def test_takes_three_stages_where_none_are_named(self, world):
        async with world(THREE, orchestration=PIPELINE) as (agents, model):
            run = await agents.run(ME, ASK)
        assert (run.answer, run.stop_reason) == ("It is 384,400 km away", StopReason.ANSWER)
        assert (len(model.requests), run.iterations) == (3, 3)

    async def test_shows_each_stage_the_question_and_what_the_one_before_gave(self, world):
        async with world(THREE, orchestration=PIPELINE) as (agents, model):
            await agents.run(ME, ASK)
        shown = [last_of(each) for each in model.requests]
        assert all("How far is the moon?" in each for each in shown)
        assert ("a distance" in shown[1], "384,400 km" in shown[2]) == (True, True)
        assert "a distance" not in shown[2]

    async def test_tells_each_stage_its_prompt(self, world):
        stages = [{"name": "find", "prompt": "Look up {{ what }}"}, "tell"]
        variables = {"variables": {"what": "numbers"}}
        spec = {"orchestration": {**PIPELINE, "stages": stages}, "prompts": variables}
        async with world({}, **spec) as (agents, model):
            await agents.run(ME, ASK)
        first, second = (last_of(each) for each in model.requests)
        assert ("Look up numbers" in first, "called 'tell'" in second) == (True, True)

    async def test_has_a_tool_loop_in_every_stage(self, world):
        answers = {
            "analyze]": Reply((), calls=[ADD]),
            "process]": Reply((), calls=[ADD]),
            "synthesize]": says("done"),
            "5": says("five"),
        }
        async with world(answers, tools=TOOLS, orchestration=PIPELINE) as (agents, model):
            events = await told(agents.stream(ME, ASK))
        assert [call.node for call in payloads(events, ToolCalled)] == ["analyze", "process"]
        assert (events[-1].payload.run.answer, len(model.requests)) == ("done", 5)

    async def test_asks_the_models_of_a_role_that_has_the_stages_name(self, world):
        orchestration = {**PIPELINE, "role_map": {"analyze": "process"}}
        spec = {"roles": {"process": "strong"}, "orchestration": orchestration}
        async with world({}, **spec) as (agents, model):
            await agents.run(ME, ASK)
        assert [each.body["model"] for each in model.requests] == ["strong", "strong", "m"]

    async def test_wants_its_form_of_the_last_stage_alone(self, world):
        schema = {"type": "object", "properties": {"km": {"type": "integer"}}}
        answers = {**THREE, "synthesize]": says('{"km": 384400}')}
        spec = {"orchestration": PIPELINE, "output_schema": schema}
        async with world(answers, **spec) as (agents, model):
            run = await agents.run(ME, ASK)
        assert json.loads(run.answer) == {"km": 384400}
        formed = ["response_format" in each.body for each in model.requests]
        assert formed == [False, False, True]

    async def test_tells_a_model_in_a_stage_what_is_wrong_with_its_calls(self, world):
        calls = Call("launch", "{}", "c1"), Call("calculator", '{"expression": ', "c2")
        answers = {"process]": Reply((), calls=calls), "synthesize]": says("done")}
        async with world(answers, tools=TOOLS, orchestration=PIPELINE) as (agents, model):
            run = await agents.run(ME, ASK)
        *_, unknown, broken = model.requests[2].body["messages"]
        assert (unknown["tool_call_id"], broken["tool_call_id"]) == ("c1", "c2")
        assert "There is no tool 'launch'" in unknown["content"]
        assert "JSON" in broken["content"]
        assert (run.answer, run.stop_reason) == ("done", StopReason.ANSWER)

    async def test_ends_with_its_rounds_where_its_last_stage_calls_tools_for_ever(self, world):
        forever = Reply(("Hm",), calls=[ADD])
        orchestration = {**PIPELINE, "stages": ["one", "two"], "max_iterations": 2}
        async with world({}, forever, tools=TOOLS, orchestration=orchestration) as (agents, model):
            run = await agents.run(ME, ASK)
        assert (run.stop_reason, run.answer) == (StopReason.MAX_ITERATIONS, "Hm")
        assert len(model.requests) == 4

    async def test_fails_with_a_stage(self, world):
        async with world({**THREE, "process]": refuses(500)}, orchestration=PIPELINE) as (a, _):
            events = await told(a.stream(ME, ASK))
            with pytest.raises(Unavailable):
                await a.run(ME, ASK)
        assert {node: failed for node, (*_, failed) in parts(events).items()} == {
            "analyze": False,
            "process": True,
        }

    async def test_is_told_with_its_stages(self, world):
        async with world(THREE, orchestration=PIPELINE) as (agents, _):
            events = await told(agents.stream(ME, ASK))
        assert parts(events) == {
            name: ("", "stage", name, False) for name in ("analyze", "process", "synthesize")
        }
        nodes = ["analyze", "process", "synthesize"]
        assert [reply.node for reply in payloads(events, ModelReplied)] == nodes
        assert {text.node for text in payloads(events, TextDelta)} == set(nodes)
