"""What a run asks its models for, and what it says of their answers."""

import contextlib
import json
from dataclasses import replace

import pytest

from servers.domain.caller import Caller
from servers.domain.chat import ModelUsage, Usage
from servers.domain.run_events import ModelReplied, TextDelta
from servers.domain.runs import RunRequest, RunState, StopReason
from servers.kernel.errors import AstromeshError, InvalidInput, Unavailable
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.http_server import Call, Reply, Then, nobody
from tests.scripted.openai_server import openai_server

ME = Caller("acme")
ASK = RunRequest("helper", "How good is it?")
SCORE = {
    "type": "object",
    "properties": {"score": {"type": "integer", "maximum": 10}},
    "required": ["score"],
    "additionalProperties": False,
}
GOOD, BAD = Reply(pieces=('{"score": 9}',)), Reply(pieces=('{"score": 11}',))
ADD = Reply(pieces=(), calls=(Call("calculator", '{"expression": "4+5"}'),))


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    """Starts `helper` on a model that says `replies`; gives the agents and the model server."""

    @contextlib.asynccontextmanager
    async def started(*replies, **spec):
        async with (
            openai_server(*replies) as model,
            mesh_of(tmp_path, agent("helper", model.endpoint, **spec)) as mesh,
            reached(mesh) as agents,
        ):
            yield agents, model

    return started


async def events(agents, kind) -> list:
    return [e.payload async for e in agents.stream(ME, ASK) if isinstance(e.payload, kind)]


class TestAnAnswerOfAForm:
    async def test_is_json_that_fits(self, world):
        async with world(GOOD, output_schema=SCORE) as (agents, model):
            run = await agents.run(ME, ASK)
        assert (run.answer, run.stop_reason) == ('{"score": 9}', StopReason.ANSWER)
        sent = model.requests[0].body["response_format"]["json_schema"]["schema"]
        assert sent == SCORE

    async def test_is_repaired_and_both_calls_are_counted(self, world):
        async with world(BAD, GOOD, output_schema=SCORE) as (agents, _):
            run = await agents.run(ME, ASK)
        assert run.answer == '{"score": 9}'
        assert run.usage == (ModelUsage("openai_compat", "m", 2, Usage(14, 4)),)

    async def test_is_streamed_only_when_it_fits(self, world):
        async with world(BAD, GOOD, output_schema=SCORE) as (agents, _):
            pieces = await events(agents, TextDelta)
        assert "".join(piece.text for piece in pieces) == '{"score": 9}'

    async def test_comes_after_tool_calls_too(self, world):
        tools = [{"name": "calculator"}]
        async with world(ADD, GOOD, output_schema=SCORE, tools=tools) as (agents, model):
            run = await agents.run(ME, ASK)
        assert (run.answer, len(model.requests)) == ('{"score": 9}', 2)
        for asked in model.requests:  # in words: held to it, most models could call no tool
            assert json.loads(asked.body["messages"][0]["content"].splitlines()[-1]) == SCORE

    async def test_that_never_fits_fails_the_run(self, world):
        async with world(BAD, output_schema=SCORE) as (agents, _):
            with pytest.raises(Unavailable) as caught:
                await agents.run(ME, ASK)
        assert caught.value.reason == "OUTPUT_INVALID"
        assert caught.value.facts["model"] == "m"

    async def test_is_not_promised_by_a_schema_that_is_none(self, world):
        async with world(GOOD) as (agents, model):
            broken = agent("broken", model.endpoint, output_schema={**SCORE, "required": "score"})
            with pytest.raises(InvalidInput) as caught:
                await agents.create(ME, broken)
        assert [v.field for v in caught.value.violations] == ["spec.output_schema.required"]

    async def test_may_be_declared_over_the_api(self, world):
        async with world(GOOD) as (agents, model):
            await agents.create(ME, agent("rater", model.endpoint, output_schema=SCORE))
            run = await agents.run(ME, replace(ASK, agent="rater"))
        assert json.loads(run.answer) == {"score": 9}


def routed(endpoint: str, **routing) -> dict:
    primary = {"provider": "openai_compat", "endpoint": endpoint, "model": "m"}
    return {"primary": primary, "routing": routing}


class TestAnAgentsCache:
    async def test_answers_the_same_question_again(self, world, tmp_path, reached):
        async with world(Reply(pieces=("one",)), Reply(pieces=("two",))) as (agents, model):
            declared = agent("cached", model.endpoint, model=routed(model.endpoint, cache_ttl=60))
            await agents.create(ME, declared)
            asked = replace(ASK, agent="cached")
            first, again = await agents.run(ME, asked), await agents.run(ME, asked)
        assert (first.answer, again.answer, len(model.requests)) == ("one", "one", 1)
        assert again.usage == (ModelUsage("openai_compat", "m", 0, Usage(cost_usd=0.0)),)

    async def test_is_said_in_the_reply(self, world):
        async with world() as (agents, model):
            declared = agent("helper2", model.endpoint, model=routed(model.endpoint, cache_ttl=60))
            await agents.create(ME, declared)
            asked = replace(ASK, agent="helper2")
            await agents.run(ME, asked)
            replies = [
                event.payload.finish.cached
                async for event in agents.stream(ME, asked)
                if isinstance(event.payload, ModelReplied)
            ]
        assert replies == [True]


async def test_a_run_that_broke_off_counts_what_was_said_with_who_said_it(world):
    breaks = Reply(pieces=("a", "b", "c"), then=Then.CLOSE)
    async with nobody() as down, world(breaks) as (agents, model):
        choice = {"provider": "openai_compat", "endpoint": model.endpoint, "model": "second"}
        policy = {"primary": {**choice, "endpoint": down, "model": "first"}, "fallback": [choice]}
        await agents.create(ME, agent("falling", model.endpoint, model=policy))
        with pytest.raises(AstromeshError) as caught:
            await agents.run(ME, replace(ASK, agent="falling"))
        run = await agents.get_run(ME, caught.value.facts["run_id"])
    assert run.state is RunState.FAILED
    assert [(used.model, used.usage.completion_tokens) for used in run.usage] == [("second", 3)]
