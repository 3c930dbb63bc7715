"""What rules do to runs, checked in process and over the wire alike: what leaves and what is
kept has gone through them, and what they block is an outcome."""

import asyncio
import time

import pytest

from servers.agents.adapters.opening import open_stores
from servers.config import load_config
from servers.domain.memory import SessionKey, Strategy
from servers.domain.run_events import (
    Completed,
    Guarded,
    ModelReplied,
    ReasoningDelta,
    RunEvent,
    StateChanged,
    TextDelta,
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
from tests.contract.guardrail_fixture import (
    ASK,
    BLOCK,
    DONE,
    JUDGE,
    ME,
    NO,
    REDACT,
    SECRET,
    SPLIT,
    SUM,
    asked,
    judging_at,
    of,
    reached,
    seen,
    texts,
    world,
)
from tests.patience import PROMPTLY
from tests.running import agent, mesh_of, write_agents
from tests.scripted.http_server import Reply, Then
from tests.scripted.openai_server import openai_server

__all__ = ["reached", "world"]
TELL = RunRequest("helper", f"My address is {SECRET}", session="s")
MEMORY = {"conversational": {"backend": "sqlite"}}


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
            await asyncio.wait_for(model.left.wait(), PROMPTLY)
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
