"""Models that judge what goes in and comes out of runs, in process and over the wire alike."""

import asyncio
import contextlib

import pytest

from servers.domain.run_events import Guarded, ModelReplied, Noticed, TextDelta, ToolCalled
from servers.domain.runs import Block, Direction, RunState
from tests.contract.guardrail_fixture import (
    ASK,
    DONE,
    JUDGE,
    ME,
    NO,
    REDACT,
    SPLIT,
    TOOLS,
    WANTS,
    YES,
    asked,
    judging_at,
    of,
    reached,
    seen,
    texts,
)
from tests.patience import PATIENCE, PROMPTLY
from tests.running import agent, mesh_of
from tests.scripted.http_server import Reply, Then, refuses
from tests.scripted.openai_server import openai_server

__all__ = ["reached"]


@pytest.fixture
def judged(reached, tmp_path):
    """As `world`, with a second model that judges."""

    @contextlib.asynccontextmanager
    async def started(verdicts, *replies, **spec):
        async with openai_server(*replies) as model, openai_server(*verdicts) as judge:
            manifest = agent("helper", model.endpoint, **spec)
            manifest["spec"]["model"]["roles"] = judging_at(judge)
            async with mesh_of(tmp_path, manifest) as mesh, reached(mesh) as agents:
                yield agents, model, judge

    return started


class TestAModelThatJudgesTheQuery:
    async def test_lets_the_run_go_on(self, judged):
        async with judged([NO], Reply(), guardrails={"input": [JUDGE]}) as (agents, _, judge):
            run = await agents.run(ME, ASK)
            assert run.answer == "Hello there"
            assert "hello?" in asked(judge)
            assert "Is it rude?" in asked(judge)

    async def test_ends_the_run(self, judged):
        async with judged([YES], Reply(), guardrails={"input": [JUDGE]}) as (agents, _, _):
            run = await agents.run(ME, ASK)
        assert (run.state, run.answer) == (RunState.BLOCKED, "Be kind.")
        assert run.block == Block("model_guard", Direction.INPUT, "Be kind.")

    async def test_works_beside_the_model_whose_words_wait(self, judged):
        hold = asyncio.Event()
        slow = Reply(('{"answer": false}',), hold=hold)
        async with judged([slow], Reply(), guardrails={"input": [JUDGE]}) as (agents, model, _):
            run = await agents.create_run(ME, ASK)
            await asyncio.wait_for(model.asked.wait(), PATIENCE)
            await asyncio.sleep(0.2)
            assert (await agents.get_run(ME, run.id)).answer == ""
            hold.set()
            events = await seen(agents.events(ME, run.id))
        assert texts(events) == "Hello there"

    async def test_ends_a_run_whose_model_says_nothing(self, judged):
        silent = Reply((), then=Then.HANG)
        async with judged([YES], silent, guardrails={"input": [JUDGE]}) as (agents, model, _):
            async with asyncio.timeout(PATIENCE):
                assert (await agents.run(ME, ASK)).state is RunState.BLOCKED
                await asyncio.wait_for(model.left.wait(), PROMPTLY)

    async def test_lets_no_tool_be_called_before_it_has_said_no(self, judged):
        hold = asyncio.Event()
        slow = Reply(('{"answer": true}',), hold=hold)
        spec = {"tools": TOOLS, "guardrails": {"input": [JUDGE]}}
        async with judged([slow], WANTS, DONE, **spec) as (agents, _, _):
            run = await agents.create_run(ME, ASK)
            await asyncio.sleep(0.3)
            hold.set()
            events = await seen(agents.events(ME, run.id))
        assert of(ToolCalled, events) == of(TextDelta, events) == []

    @pytest.mark.parametrize(
        "trouble", [refuses(400), Reply(('{"answer": "maybe"}',)), Reply(("?",))]
    )
    async def test_that_fails_counts_as_a_yes(self, judged, trouble):
        async with judged([trouble] * 4, Reply(), guardrails={"input": [JUDGE]}) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        assert events[-1].run.state is RunState.BLOCKED
        assert "GUARD_FAILED" in [notice.reason for notice in of(Noticed, events)]

    async def test_that_fails_lets_pass_where_the_rule_says_so(self, judged):
        rule = JUDGE | {"on_error": "pass"}
        async with judged([refuses(400)], Reply(), guardrails={"input": [rule]}) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        assert events[-1].run.answer == "Hello there"
        assert "GUARD_FAILED" in [notice.reason for notice in of(Noticed, events)]

    async def test_is_paid_for_by_the_run(self, judged):
        async with judged([NO], Reply(), guardrails={"input": [JUDGE]}) as (agents, _, _):
            run = await agents.run(ME, ASK)
        assert {each.model for each in run.usage} == {"m", "j"}

    async def test_only_warns_where_the_rule_says_so(self, judged):
        rule = JUDGE | {"action": "warn"}
        async with judged([YES], Reply(), guardrails={"input": [rule]}) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        assert events[-1].run.answer == "Hello there"
        assert of(Guarded, events) == [Guarded("model_guard", Direction.INPUT, "warn", 1)]


class TestAModelThatJudgesTheAnswer:
    async def test_lets_it_leave_as_a_whole(self, judged):
        rules = [*REDACT, JUDGE]
        async with judged([NO], Reply(SPLIT), guardrails={"output": rules}) as (agents, _, judge):
            events = await seen(agents.stream(ME, ASK))
            assert "Write to [EMAIL] soon." in asked(judge)
        assert texts(events) == events[-1].run.answer == "Write to [EMAIL] soon."

    async def test_keeps_all_of_it(self, judged):
        async with judged([YES], Reply(), guardrails={"output": [JUDGE]}) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        run = events[-1].run
        assert (run.state, run.answer, texts(events)) == (RunState.BLOCKED, "Be kind.", "")
        assert run.block.direction is Direction.OUTPUT
        assert of(ModelReplied, events) == []
