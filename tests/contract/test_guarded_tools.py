"""What rules do to calls of tools and to what a run costs, in process and over the wire alike."""

import json

from servers.domain.run_events import Decided, Guarded, ToolCalled, ToolReturned
from servers.domain.runs import Decision, Direction, RunState, Verdict
from tests.contract.guardrail_fixture import (
    ASK,
    BLOCK,
    DONE,
    ME,
    REDACT,
    SECRET,
    TOOLS,
    WANTS,
    asked,
    of,
    reached,
    seen,
    world,
)
from tests.scripted.http_server import Call, Reply

__all__ = ["reached", "world"]


class TestTools:
    async def test_get_redacted_arguments(self, world):
        guards = {"output": [{"type": "content_filter", "action": "redact", "keywords": [" + 1"]}]}
        async with world(WANTS, DONE, tools=TOOLS, guardrails=guards) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        (call,), (result,) = of(ToolCalled, events), of(ToolReturned, events)
        assert call.arguments == '{"expression": "5551234567[REDACTED]"}'
        assert "5551234568" not in result.content
        assert of(Guarded, events) == [
            Guarded("content_filter", Direction.TOOL_ARGUMENTS, "redact", 1, call.call_id)
        ]

    async def test_arguments_are_kept_redacted_in_the_reply_as_well(self, world):
        async with world(WANTS, DONE, tools=TOOLS, guardrails={"output": REDACT}) as some:
            agents, model, _ = some
            events = await seen(agents.stream(ME, ASK))
            assert "5551234567" not in repr(model.requests[1].body)
        assert "5551234567" not in repr(events)

    async def test_that_are_not_there_are_named_redacted(self, world):
        wants = Reply((), calls=[Call(SECRET)])
        async with world(wants, DONE, tools=TOOLS, guardrails={"output": REDACT}) as some:
            agents, model, _ = some
            events = await seen(agents.stream(ME, ASK))
            assert "There is no tool '[EMAIL]'" in asked(model, 1)
        assert SECRET not in repr(events)

    async def test_results_are_redacted(self, world):
        async with world(WANTS, DONE, tools=TOOLS, guardrails={"input": REDACT}) as some:
            agents, model, _ = some
            events = await seen(agents.stream(ME, ASK))
            assert asked(model, 1) == "[PHONE]"
        (result,) = of(ToolReturned, events)
        assert result.content == "[PHONE]"
        assert of(Guarded, events) == [
            Guarded("pii_detection", Direction.TOOL_RESULT, "redact", 1, result.call_id)
        ]

    async def test_are_not_called_with_what_is_blocked(self, world):
        async with world(WANTS, tools=TOOLS, guardrails={"output": BLOCK}) as (agents, model, _):
            events = await seen(agents.stream(ME, ASK))
            assert len(model.requests) == 1
        run = events[-1].run
        assert (run.state, run.block.direction) == (RunState.BLOCKED, Direction.TOOL_ARGUMENTS)
        assert of(ToolCalled, events) == []

    async def test_results_can_end_the_run(self, world):
        async with world(WANTS, tools=TOOLS, guardrails={"input": BLOCK}) as (agents, model, _):
            events = await seen(agents.stream(ME, ASK))
            assert len(model.requests) == 1
        run = events[-1].run
        assert (run.state, run.block.direction) == (RunState.BLOCKED, Direction.TOOL_RESULT)
        assert "5551234568" not in repr(events)

    async def test_results_that_are_cut_end_in_no_half_of_an_address(self, world):
        document = f"{'x ' * 28}{SECRET}{' y' * 200}"
        arguments = json.dumps({"document": json.dumps(document), "expression": "@"})
        wants = Reply((), calls=[Call("json_query", arguments)])
        tools = [{"name": "json_query", "max_result_tokens": 23}]
        async with world(wants, DONE, tools=tools, guardrails={"input": REDACT}) as some:
            agents, _, _ = some
            events = await seen(agents.stream(ME, ASK))
        (result,) = of(ToolReturned, events)
        assert result.truncated_tokens > 0
        assert "tokens cut]" in result.content
        assert result.content.startswith('"x x')
        assert "ada" not in result.content

    async def test_of_the_client_give_redacted_results(self, world):
        tools = [{"name": "camera", "type": "client", "description": "Takes a picture"}]
        wants = Reply((), calls=[Call("camera")])
        async with world(wants, DONE, tools=tools, guardrails={"input": REDACT}) as some:
            agents, model, _ = some
            run = await agents.run(ME, ASK)
            given = Decision("", Verdict.RESULT, content=f"I see {SECRET}")
            run = await agents.resume(ME, run.id, given, wait=True)
            assert asked(model, 1) == "I see [EMAIL]"
            events = await seen(agents.events(ME, run.id))
        assert of(Decided, events)[0].decision.content == "I see [EMAIL]"
        assert [report.action for report in of(Guarded, events)] == ["redact"]
        assert SECRET not in repr(events)

    async def test_of_the_client_can_end_the_run(self, world):
        tools = [{"name": "camera", "type": "client", "description": "Takes a picture"}]
        wants = Reply((), calls=[Call("camera")])
        async with world(wants, tools=tools, guardrails={"input": BLOCK}) as (agents, _, _):
            run = await agents.run(ME, ASK)
            given = Decision("", Verdict.RESULT, content=f"I see {SECRET}")
            run = await agents.resume(ME, run.id, given, wait=True)
            assert (run.state, run.answer) == (RunState.BLOCKED, "No addresses, please.")
            assert run.block.direction is Direction.TOOL_RESULT
            assert SECRET not in repr(await seen(agents.events(ME, run.id)))


class TestACostLimit:
    async def test_stops_a_run_before_its_next_model_call(self, world):
        limit = [{"type": "cost_limit", "max_tokens_per_turn": 9, "message": "Enough."}]
        async with world(WANTS, DONE, tools=TOOLS, guardrails={"output": limit}) as some:
            agents, model, _ = some
            run = await agents.run(ME, ASK)
            assert (run.state, run.answer) == (RunState.BLOCKED, "Enough.")
            assert run.block.rule == "cost_limit"
            assert len(model.requests) == 1

    async def test_lets_a_run_go_on_below_it(self, world):
        limit = [{"type": "cost_limit", "max_tokens": 10}]
        async with world(WANTS, DONE, tools=TOOLS, guardrails={"output": limit}) as (agents, _, _):
            assert (await agents.run(ME, ASK)).answer == "Done"

    async def test_warns_once_where_it_says_so(self, world):
        limit = [{"type": "cost_limit", "max_tokens": 1, "action": "warn"}]
        async with world(WANTS, WANTS, DONE, tools=TOOLS, guardrails={"output": limit}) as some:
            agents, _, _ = some
            events = await seen(agents.stream(ME, ASK))
        assert of(Guarded, events) == [Guarded("cost_limit", Direction.OUTPUT, "warn", 1)]
        assert events[-1].run.answer == "Done"
