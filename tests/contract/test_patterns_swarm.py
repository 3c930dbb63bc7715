"""The pattern swarm, in process and over the wire."""

import contextlib
from dataclasses import replace

import pytest

from servers.domain.run_events import BranchStarted, ToolCalled
from servers.domain.runs import Decision, Durability, RunRequest, RunState, StopReason, Verdict
from servers.kernel.errors import InvalidInput, NotReady
from tests.contract.pattern_fixture import ADD, ME, TOOLS, parts, payloads, reached, says, told
from tests.running import agent, mesh_of
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

__all__ = ["reached"]
ASK = RunRequest("front", "My invoice is wrong", context={"customer": "Ada"})
TEAM = [{"name": "billing", "type": "agent"}, {"name": "tech", "type": "agent"}]


SILENT = (says("?"),)


def to(name, *others, text=(), reason="they know"):
    arguments = f'{{"reason": "{reason}"}}'
    return Reply(text, calls=[Call(f"transfer_to_{name}", arguments, f"to_{name}"), *others])


def offered(asked):
    return {tool["function"]["name"] for tool in asked.body.get("tools", ())}


@pytest.fixture
def world(reached, tmp_path):
    """`front`, which may hand over to `billing` and `tech`, each on a model of its own."""

    @contextlib.asynccontextmanager
    async def started(front, billing=SILENT, tech=SILENT, approved=None, **spec):
        orchestration = {"pattern": "swarm", **spec.pop("orchestration", {})}
        async with contextlib.AsyncExitStack() as stack:
            enter = stack.enter_async_context
            models = [await enter(openai_server(*each)) for each in (front, billing, tech)]
            own = {"tools": [*TEAM, *spec.pop("tools", [])], "orchestration": orchestration}
            accounts = {
                "prompts": {"system": "You keep accounts for {{ customer }}."},
                "identity": {"description": "Knows invoices."},
                "tools": [{**TOOLS[0], **(approved or {})}],
                "orchestration": {"max_iterations": 2},
            }
            mesh = await enter(
                mesh_of(
                    tmp_path,
                    agent("front", models[0].endpoint, **own, **spec),
                    agent("billing", models[1].endpoint, **accounts),
                    agent("tech", models[2].endpoint),
                )
            )
            yield await enter(reached(mesh)), *models

    return started


class TestASwarm:
    async def test_answers_by_itself_where_it_can(self, world):
        async with world([says("I see")]) as (agents, front, *_):
            run = await agents.run(ME, ASK)
        assert (run.answer, run.answered_by) == ("I see", "")
        assert offered(front.requests[0]) == {"transfer_to_billing", "transfer_to_tech"}

    async def test_names_the_agent_that_had_the_last_word(self, world):
        async with world([to("billing")], [says("It is ", "5")]) as (agents, *_):
            run = await agents.run(ME, ASK)
            again = await agents.get_run(ME, run.id)
        assert (run.answer, run.answered_by, run.agent) == ("It is 5", "billing", "front")
        assert (run.stop_reason, run.iterations) == (StopReason.ANSWER, 2)
        assert again == run

    async def test_tells_what_others_are_for(self, world):
        async with world([says("I see")]) as (agents, front, *_):
            await agents.run(ME, ASK)
        (said,) = [
            each["function"]["description"]
            for each in front.requests[0].body["tools"]
            if "billing" in each["function"]["name"]
        ]
        assert "Knows invoices." in said

    async def test_gives_the_next_agent_its_own_prompt_tools_and_models(self, world):
        front = [to("billing")]
        async with world(front, prompts={"system": "You greet."}) as (agents, _, billing, _tech):
            await agents.run(ME, ASK)
        (asked,) = billing.requests
        assert [m["content"] for m in asked.body["messages"] if m["role"] == "system"] == [
            "You keep accounts for Ada."
        ]
        assert offered(asked) == {"calculator", "transfer_to_front", "transfer_to_tech"}

    async def test_shows_the_next_agent_all_that_was_said_and_done(self, world):
        front = [Reply((), calls=[ADD]), to("billing", text=("Moment",))]
        async with world(front, tools=TOOLS) as (agents, _, billing, _tech):
            await agents.run(ME, ASK)
        shown = [(m["role"], m["content"]) for m in billing.requests[0].body["messages"]]
        assert [role for role, _ in shown] == [
            "system",
            "user",
            "assistant",
            "tool",
            "assistant",
            "tool",
        ]
        assert [text for _, text in shown][3:] == [
            "5",
            "Moment",
            "'billing' has the conversation now.",
        ]

    async def test_makes_other_calls_before_it_hands_over(self, world):
        front = [to("billing", ADD)]
        async with world(front, tools=TOOLS) as (agents, _, billing, _tech):
            events = await told(agents.stream(ME, ASK))
        shown = billing.requests[0].body["messages"]
        assert [m["tool_call_id"] for m in shown if m["role"] == "tool"] == ["to_billing", "call_1"]
        assert shown[-1]["content"] == "5"
        order = [
            type(e.payload) for e in events if isinstance(e.payload, ToolCalled | BranchStarted)
        ]
        assert order == [ToolCalled, BranchStarted]

    async def test_hands_over_to_the_first_of_several(self, world):
        tech = Call("transfer_to_tech", "{}", "to_tech")
        async with world([to("billing", tech)]) as (agents, _, billing, asked_tech):
            run = await agents.run(ME, ASK)
        assert (run.answered_by, asked_tech.requests) == ("billing", [])
        last = billing.requests[0].body["messages"][-1]["content"]
        assert last == "Not done: 'billing' has the conversation already."

    async def test_may_come_back_to_the_agent_that_was_asked(self, world):
        front = [to("billing"), says("As my colleague says: 5")]
        async with world(front, [to("front", text=("5",))]) as (agents, *_):
            run = await agents.run(ME, ASK)
        assert (run.answer, run.answered_by) == ("As my colleague says: 5", "")

    async def test_hands_over_no_more_often_than_the_agent_allows(self, world):
        front, billing = [to("billing")], [to("tech")]
        spec = {"orchestration": {"max_handoffs": 2}}
        async with world(front, billing, [says("Here I am")], **spec) as (agents, *_, tech):
            run = await agents.run(ME, ASK)
        assert (run.answer, offered(tech.requests[0])) == ("Here I am", set())

    async def test_tells_a_model_that_hands_over_all_the_same_that_it_can_not(self, world):
        tech = [to("front"), says("Then I do it")]
        spec = {"orchestration": {"max_handoffs": 1}}
        async with world([to("tech")], tech=tech, **spec) as (agents, front, _, asked):
            run = await agents.run(ME, ASK)
        assert (run.answer, len(front.requests)) == ("Then I do it", 1)
        assert "no tool 'transfer_to_front'" in asked.requests[1].body["messages"][-1]["content"]

    async def test_holds_each_agent_to_its_own_rounds(self, world):
        forever = Reply(("Hm",), calls=[ADD])
        async with world([to("billing")], [forever]) as (agents, _, billing, _tech):
            run = await agents.run(ME, ASK)
        assert (run.stop_reason, run.answer) == (StopReason.MAX_ITERATIONS, "Hm")
        assert len(billing.requests) == 2

    async def test_wants_the_form_of_the_agent_that_was_asked(self, world):
        schema = {"type": "object", "properties": {"sum": {"type": "integer"}}}
        billing = [says("five"), says('{"sum": 5}')]  # the first one is repaired
        async with world([to("billing")], billing, output_schema=schema) as (agents, _, asked, _t):
            run = await agents.run(ME, ASK)
        assert (run.answer, len(asked.requests)) == ('{"sum": 5}', 2)

    async def test_waits_with_the_agent_that_has_the_conversation(self, world):
        billing = [Reply((), calls=[ADD]), says("It is 5")]
        approved = {"requires_approval": True}
        async with world([to("billing")], billing, approved=approved) as (agents, front, asked, _):
            waits = await agents.run(ME, ASK)
            run = await agents.resume(ME, waits.id, Decision("", Verdict.APPROVE), wait=True)
        assert waits.state is RunState.WAITING_APPROVAL
        assert (run.answer, run.answered_by) == ("It is 5", "billing")
        assert (len(front.requests), len(asked.requests)) == (1, 2)

    async def test_that_may_wait_is_of_a_durability_that_can(self, world):
        ask = replace(ASK, durability=Durability.NONE)
        async with world([says("hi")], approved={"requires_approval": True}) as (agents, *_):
            with pytest.raises(NotReady) as refused:
                await agents.run(ME, ask)
        assert refused.value.reason == "NOT_DURABLE"

    async def test_is_told_with_its_hand_overs(self, world):
        front, billing = [to("billing", reason="money")], [to("tech", reason="no light")]
        async with world(front, billing, [says("Done")]) as (agents, *_):
            events = await told(agents.stream(ME, ASK))
        assert parts(events) == {
            "1.billing": ("", "handoff", "billing", False),
            "2.tech": ("", "handoff", "tech", False),
        }
        assert [start.input for start in payloads(events, BranchStarted)] == ["money", "no light"]


class TestASwarmThatMakesNoSense:
    async def test_without_agents_is_refused_when_it_is_loaded_and_run(self, tmp_path, reached):
        alone = agent("front", "http://127.0.0.1:9/v1", orchestration={"pattern": "swarm"})
        async with mesh_of(tmp_path, alone) as mesh, reached(mesh) as agents:
            record = await agents.get(ME, "front")
            with pytest.raises(NotReady) as refused:
                await agents.run(ME, ASK)
        says = "a swarm hands the conversation over to other agents"
        assert (record.ready, says in record.reason) == (False, True)
        assert refused.value.reason == "AGENT_NOT_READY"

    async def test_with_an_unknown_agent_is_listed_with_its_reason(self, tmp_path, reached):
        spec = {"tools": [{"name": "biling", "type": "agent"}]}
        front = agent("front", "http://127.0.0.1:9/v1", orchestration={"pattern": "swarm"}, **spec)
        others = agent("billing", "http://127.0.0.1:9/v1")
        async with mesh_of(tmp_path, front, others) as mesh, reached(mesh) as agents:
            record = await agents.get(ME, "front")
        assert (record.ready, "did you mean 'billing'" in record.reason) == (False, True)

    async def test_with_a_tool_named_as_a_hand_over_is_refused(self, world):
        async with world([says("I see")]) as (agents, *_):
            manifest = dict((await agents.get(ME, "front")).manifest)
            tool = {"name": "transfer_to_tech", "type": "client", "description": "x"}
            spec = {**manifest["spec"], "tools": [*TEAM, tool]}
            other = {**manifest, "metadata": {"name": "other"}, "spec": spec}
            with pytest.raises(InvalidInput, match="named as a hand-over"):
                await agents.create(ME, other)
