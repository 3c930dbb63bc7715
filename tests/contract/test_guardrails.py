"""What rules do to runs, checked in process and over the wire alike: what leaves and what is
kept has gone through them, and what they block is an outcome."""

import asyncio
import contextlib
import json
import time
from contextlib import aclosing

import pytest

from servers.agents.adapters.opening import open_stores
from servers.config import load_config
from servers.domain.caller import Caller
from servers.domain.memory import SessionKey, Strategy
from servers.domain.run_events import (
    Completed,
    Decided,
    Guarded,
    ModelReplied,
    Noticed,
    ReasoningDelta,
    RunEvent,
    StateChanged,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from servers.domain.runs import (
    Block,
    Decision,
    Direction,
    Run,
    RunRequest,
    RunState,
    StopReason,
    Verdict,
)
from servers.kernel.errors import NotReady
from tests.running import agent, in_process, mesh_of, over_the_wire, write_agents
from tests.scripted.http_server import Call, Reply, Then, refuses
from tests.scripted.openai_server import openai_server

ME = Caller("acme")
SECRET = "ada@example.com"
SPLIT = ("Write to a", "da@exa", "mple", ".com", " soon.")
TELL = RunRequest("helper", f"My address is {SECRET}", session="s")
ASK = RunRequest("helper", "hello?", session="s")
MEMORY = {"conversational": {"backend": "sqlite"}}
TOOLS = [{"name": "calculator"}]
REDACT = [{"type": "pii_detection"}]
BLOCK = [{"type": "pii_detection", "action": "block", "message": "No addresses, please."}]
YES, NO = Reply(('{"answer": true}',)), Reply(('{"answer": false}',))
JUDGE = {"type": "model_guard", "question": "Is it rude?", "role": "judge", "message": "Be kind."}


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    """Starts `helper` on a model that says `replies`; gives the agents, the model, the mesh."""

    @contextlib.asynccontextmanager
    async def started(*replies, **spec):
        async with (
            openai_server(*replies) as model,
            mesh_of(tmp_path, agent("helper", model.endpoint, **spec)) as mesh,
            reached(mesh) as agents,
        ):
            yield agents, model, mesh

    return started


async def seen(events):
    async with asyncio.timeout(10), aclosing(events):
        return [event.payload async for event in events]


def of(kind, payloads):
    return [payload for payload in payloads if isinstance(payload, kind)]


def texts(payloads):
    return "".join(payload.text for payload in of(TextDelta, payloads))


def asked(model, request=0):
    return model.requests[request].body["messages"][-1]["content"]


async def remembered(mesh):
    kept = await mesh.memory.context(
        SessionKey("acme", "helper", "s"), Strategy("sliding_window", 100)
    )
    return [message.text for message in kept.messages]


class TestWhatTheUserSays:
    async def test_reaches_the_model_redacted(self, world):
        async with world(Reply(), guardrails={"input": REDACT}) as (agents, model, _):
            await agents.run(ME, TELL)
            assert asked(model) == "My address is [EMAIL]"

    async def test_is_kept_redacted(self, world):
        async with world(Reply(), memory=MEMORY, guardrails={"input": REDACT}) as world_:
            agents, _, mesh = world_
            run = await agents.run(ME, TELL)
            events = await seen(agents.events(ME, run.id))
            assert (await agents.get_run(ME, run.id)).query == "My address is [EMAIL]"
            assert await remembered(mesh) == ["My address is [EMAIL]", "Hello there"]
        assert SECRET not in repr(events)

    async def test_is_reported_by_rule_and_count(self, world):
        async with world(Reply(), guardrails={"input": REDACT}) as (agents, _, _):
            events = await seen(agents.stream(ME, TELL))
        assert of(Guarded, events) == [Guarded("pii_detection", Direction.INPUT, "redact", 1)]

    async def test_is_the_same_request_again_under_its_id(self, world):
        request = RunRequest("helper", f"My address is {SECRET}", request_id="one")
        async with world(Reply(), guardrails={"input": REDACT}) as (agents, _, _):
            run = await agents.run(ME, request)
            assert (await agents.run(ME, request)).id == run.id

    async def test_can_be_blocked_before_anything_is_done_with_it(self, world):
        async with world(memory=MEMORY, guardrails={"input": BLOCK}) as (agents, model, mesh):
            run = await agents.run(ME, TELL)
            assert (run.state, run.stop_reason) == (RunState.BLOCKED, StopReason.GUARDRAIL)
            assert run.block == Block("pii_detection", Direction.INPUT, "No addresses, please.")
            assert run.answer == "No addresses, please."
            assert run.failure is None
            assert model.requests == []
            assert await remembered(mesh) == []

    async def test_that_is_blocked_is_kept_nowhere(self, world):
        async with world(guardrails={"input": BLOCK}) as (agents, _, _):
            run = await agents.create_run(ME, TELL)
            events = await seen(agents.events(ME, run.id))
            assert (await agents.get_run(ME, run.id)).query == ""
        assert SECRET not in repr(events)
        report, end = events[-2:]
        assert report == Guarded("pii_detection", Direction.INPUT, "block", 1)
        assert isinstance(end, Completed)

    async def test_ends_no_session(self, world):
        async with world(Reply(), guardrails={"input": BLOCK}) as (agents, _, _):
            await agents.run(ME, TELL)
            assert (await agents.run(ME, ASK)).answer == "Hello there"

    async def test_stays_blocked_for_who_asks_later(self, world, tmp_path):
        async with world(guardrails={"input": BLOCK}) as (agents, _, _):
            run = await agents.run(ME, RunRequest("helper", TELL.query, request_id="one"))
        async with world(guardrails={"input": BLOCK}) as (agents, _, _):
            assert await agents.get_run(ME, run.id) == run


class TestWhatTheModelSays:
    async def test_leaves_redacted_however_it_is_cut(self, world):
        async with world(Reply(SPLIT), guardrails={"output": REDACT}) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        assert texts(events) == "Write to [EMAIL] soon."
        assert events[-1].run.answer == texts(events)
        assert "example" not in repr(events)

    async def test_leaves_as_it_comes_where_no_rule_can_apply(self, world):
        pieces = ("Well, ", "that ", "is ", "it.")
        async with world(Reply(pieces), guardrails={"output": REDACT}) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        assert [delta.text for delta in of(TextDelta, events)] == ["Well, ", "that ", "is ", "it."]

    async def test_is_what_the_unary_call_gives(self, world):
        async with world(Reply(SPLIT), Reply(SPLIT), guardrails={"output": REDACT}) as some:
            agents, _, _ = some
            whole = await agents.run(ME, ASK)
            assert texts(await seen(agents.stream(ME, ASK))) == whole.answer

    async def test_is_kept_redacted(self, world):
        async with world(Reply(SPLIT), memory=MEMORY, guardrails={"output": REDACT}) as some:
            agents, _, mesh = some
            run = await agents.run(ME, ASK)
            events = await seen(agents.events(ME, run.id))
            assert await remembered(mesh) == ["hello?", "Write to [EMAIL] soon."]
        (reply,) = of(ModelReplied, events)
        assert reply.message.text == "Write to [EMAIL] soon."
        assert of(Guarded, events) == [Guarded("pii_detection", Direction.OUTPUT, "redact", 1)]

    async def test_is_redacted_in_its_reasoning_too(self, world):
        thinking = Reply(
            ("Hi",),
            reasoning=(
                "Is ada@",
                "example.com hers?",
            ),
        )
        async with world(thinking, guardrails={"output": REDACT}) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        thought = "".join(delta.text for delta in of(ReasoningDelta, events))
        assert thought == "Is [EMAIL] hers?"
        assert "example" not in repr(events)

    async def test_can_be_blocked_while_it_streams(self, world):
        async with world(
            Reply((*SPLIT, "more"), then=Then.HANG), guardrails={"output": BLOCK}
        ) as some:
            agents, model, _ = some
            events = await seen(agents.stream(ME, ASK))
            await asyncio.wait_for(model.left.wait(), 2)
        run = events[-1].run
        assert texts(events) == "Write to "
        assert (run.state, run.answer) == (RunState.BLOCKED, "No addresses, please.")
        assert run.block == Block("pii_detection", Direction.OUTPUT, "No addresses, please.")
        assert of(ModelReplied, events) == []

    async def test_that_is_blocked_is_not_remembered(self, world):
        async with world(Reply(SPLIT), memory=MEMORY, guardrails={"output": BLOCK}) as some:
            agents, _, mesh = some
            await agents.run(ME, ASK)
            assert await remembered(mesh) == []

    async def test_was_paid_for_although_it_is_blocked(self, world):
        async with world(Reply(SPLIT), guardrails={"output": BLOCK}) as (agents, _, _):
            assert (await agents.run(ME, ASK)).total.completion_tokens > 0

    async def test_may_be_cut(self, world):
        short = [{"type": "max_length", "max_chars": 7}]
        async with world(Reply(("Hello", " there")), guardrails={"output": short}) as (
            agents,
            _,
            _,
        ):
            events = await seen(agents.stream(ME, ASK))
        assert (texts(events), events[-1].run.answer) == ("Hello t", "Hello t")

    async def test_stays_json_where_it_has_to_be(self, world):
        schema = {"type": "object", "properties": {"to": {"type": "string"}}, "required": ["to"]}
        rules = [*REDACT, {"type": "max_length", "max_chars": 7}]
        said = Reply(('{"to": "ada@', 'example.com"}'))
        async with world(said, output_schema=schema, guardrails={"output": rules}) as some:
            agents, _, _ = some
            events = await seen(agents.stream(ME, ASK))
        assert texts(events) == events[-1].run.answer == '{"to": "[EMAIL]"}'

    async def test_is_not_told_by_what_goes_wrong_with_it(self, world):
        schema = {"type": "object", "properties": {"age": {"type": "integer"}}}
        said = Reply(('{"age": "ada@example.com"}',))
        async with world(said, output_schema=schema, guardrails={"output": REDACT}) as some:
            agents, _, _ = some
            events = await seen(agents.stream(ME, ASK))
        assert events[-1].run.failure.reason == "OUTPUT_INVALID"
        assert "[EMAIL]" in events[-1].run.failure.message
        assert SECRET not in repr(events)

    async def test_only_warns_where_a_rule_says_so(self, world):
        warn = [{"type": "content_filter", "action": "warn", "keywords": ["hell"]}]
        async with world(Reply(), guardrails={"output": warn}) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        assert texts(events) == "Hello there"
        assert of(Guarded, events) == [Guarded("content_filter", Direction.OUTPUT, "warn", 1)]


SUM = Call("calculator", '{"expression": "5551234567 + 1"}')
WANTS, DONE = Reply((), calls=[SUM]), Reply(("Done",))


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


def judging_at(judge):
    choice = {"provider": "openai_compat", "endpoint": judge.endpoint, "model": "j"}
    return {"judge": {"candidates": [choice]}}


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
            await asyncio.wait_for(model.asked.wait(), 5)
            await asyncio.sleep(0.2)
            assert (await agents.get_run(ME, run.id)).answer == ""
            hold.set()
            events = await seen(agents.events(ME, run.id))
        assert texts(events) == "Hello there"

    async def test_ends_a_run_whose_model_says_nothing(self, judged):
        silent = Reply((), then=Then.HANG)
        async with judged([YES], silent, guardrails={"input": [JUDGE]}) as (agents, model, _):
            async with asyncio.timeout(5):
                assert (await agents.run(ME, ASK)).state is RunState.BLOCKED
                await asyncio.wait_for(model.left.wait(), 2)

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


class TestARunThatGoesOn:
    async def test_finds_what_rules_did_on_record(self, reached, tmp_path):
        """In another process: neither the query nor the first reply is judged again."""
        said = Reply(("Ask ada@example.com first",), calls=[SUM])
        async with openai_server(said, DONE) as model, openai_server(NO) as judge:
            manifest = agent(
                "helper",
                model.endpoint,
                tools=[{"name": "calculator", "requires_approval": True}],
                guardrails={"input": [*REDACT, JUDGE], "output": REDACT},
            )
            manifest["spec"]["model"]["roles"] = judging_at(judge)
            async with mesh_of(tmp_path, manifest) as mesh, reached(mesh) as agents:
                run = await agents.run(ME, TELL)
                assert run.state is RunState.WAITING_APPROVAL
            async with mesh_of(tmp_path, manifest) as mesh, reached(mesh) as agents:
                run = await agents.resume(ME, run.id, Decision("", Verdict.APPROVE), wait=True)
            assert (run.state, run.answer) == (RunState.COMPLETED, "Done")
            assert len(judge.requests) == 1
            said_before = [m["content"] for m in model.requests[1].body["messages"]][:2]
            assert said_before == ["My address is [EMAIL]", "Ask [EMAIL] first"]

    async def test_ends_where_a_block_is_on_record_and_the_end_is_not(self, reached, tmp_path):
        """As a process leaves it that is killed between the two."""
        config = load_config(write_agents(tmp_path), tmp_path / "state", {})
        run = Run("r1", "acme", "helper", "1.0.0", "s", RunState.RUNNING, "hello?", started_at=1.0)
        report = Guarded("content_filter", Direction.OUTPUT, "block")
        past = (StateChanged(RunState.RUNNING), report)
        events = [RunEvent("r1", at, 5.0, payload) for at, payload in enumerate(past, 1)]
        async with open_stores(config.state_dir, time.time, lambda: "another") as stores:
            await stores.runs.create(run, "", events)
        rule = {"type": "content_filter", "keywords": ["hell"], "message": "Mind your words."}
        async with openai_server() as model:
            helper = agent("helper", model.endpoint, guardrails={"output": [rule]})
            async with mesh_of(tmp_path, helper) as mesh, reached(mesh) as agents:
                await seen(agents.events(ME, "r1"))
                ended = await agents.get_run(ME, "r1")
            assert model.requests == []
        assert (ended.state, ended.answer) == (RunState.BLOCKED, "Mind your words.")
        assert ended.block == Block("content_filter", Direction.OUTPUT, "Mind your words.")


async def test_a_faulty_rule_keeps_its_agent_from_running_and_no_other(reached, tmp_path):
    async with openai_server(Reply()) as model:
        faulty = agent(
            "faulty", model.endpoint, guardrails={"input": [{"type": "pii"}, {"type": "x"}]}
        )
        sound = agent("helper", model.endpoint)
        async with mesh_of(tmp_path, faulty, sound) as mesh, reached(mesh) as agents:
            record = await agents.get(ME, "faulty")
            assert not record.ready
            assert "spec.guardrails.input[1].type: unknown value 'x'" in record.reason
            with pytest.raises(NotReady, match="unknown value 'x'"):
                await agents.run(ME, RunRequest("faulty", "hello?"))
            assert (await agents.run(ME, ASK)).answer == "Hello there"
