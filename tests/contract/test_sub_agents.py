"""Agents that work through others, checked in process and over the wire alike."""

import asyncio
import contextlib
import json

import pytest

from servers.domain.run_events import SubRunStarted, ToolCalled, ToolReturned
from servers.domain.runs import Decision, Durability, RunRequest, RunState, Verdict
from servers.domain.tools import Outcome
from servers.kernel.errors import Exhausted, NotReady
from tests.contract.team_fixture import (
    ASK,
    ASKS_FIRST,
    LEADS,
    ME,
    PAYS,
    SUM,
    WORKER,
    asks,
    children,
    observed,
    of,
    reached,
    seen,
    world,
)
from tests.patience import PROMPTLY, SOON_ENOUGH
from tests.running import agent, mesh_of
from tests.scripted.http_server import Call, Reply, Then, refuses

__all__ = ["reached", "world"]
TALK = {"conversational": {"backend": "sqlite", "strategy": "sliding_window", "max_turns": 4}}
SUPERVISOR = {"orchestration": {"pattern": "supervisor"}}


class TestACallOfAnAgent:
    async def test_is_a_run_whose_answer_is_the_result(self, world):
        async with world() as (agents, above, below):
            run = await agents.run(ME, ASK)
        assert run.answer == "All is well"
        assert observed(above) == "Nothing"
        assert below.requests[0].body["messages"][-1] == {"role": "user", "content": "find out"}

    async def test_is_told_in_the_events_of_its_parent(self, world):
        async with world() as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
            (child,) = await children(agents, events[0].run_id)
        (call,), (sub,), (result,) = (
            of(events, kind) for kind in (ToolCalled, SubRunStarted, ToolReturned)
        )
        assert (sub.call_id, sub.run_id, sub.agent) == (call.call_id, child.id, "worker")
        assert (result.content, result.outcome) == ("Nothing", Outcome.OK)
        kinds = [type(event.payload) for event in events]
        assert kinds.index(ToolCalled) < kinds.index(SubRunStarted) < kinds.index(ToolReturned)

    async def test_has_a_row_of_its_own_that_names_its_parent(self, world):
        async with world() as (agents, _, _):
            run = await agents.run(ME, ASK)
            (child,) = await children(agents, run.id)
        assert (child.parent, child.root, child.parent_call) == (run.id, run.id, "1.0")
        assert (child.agent, child.answer, child.state) == ("worker", "Nothing", RunState.COMPLETED)
        assert child.request_id == f"{run.id}/1.0"

    async def test_has_the_context_and_the_durability_of_its_parent(self, world):
        work = RunRequest("lead", "hi", context={"city": "Bern"}, durability=Durability.EXIT)
        prompts = {"system": "You are in {{ city }}."}
        async with world(prompts=prompts) as (agents, _, below):
            run = await agents.run(ME, work)
            (child,) = await children(agents, run.id)
        assert child.durability is Durability.EXIT
        assert below.requests[0].body["messages"][0]["content"] == "You are in Bern."

    async def test_with_a_memory_has_a_conversation_within_that_of_its_parent(self, world):
        leads = Reply((), calls=[asks("one")]), Reply((), calls=[asks("two")]), Reply(("Done",))
        async with world(leads, memory=TALK) as (agents, _, below):
            run = await agents.run(ME, RunRequest("lead", "hi", session="s"))
            second, first = await children(agents, run.id)
        assert {first.session, second.session} == {"s/worker"}
        said = [message["content"] for message in below.requests[1].body["messages"]]
        assert said == ["one", "Nothing", "two"]

    async def test_without_a_memory_has_a_session_of_its_own(self, world):
        async with world() as (agents, _, _):
            run = await agents.run(ME, RunRequest("lead", "hi", session="s"))
            (child,) = await children(agents, run.id)
        assert child.session == child.id

    async def test_whose_session_would_be_too_long_has_a_short_name(self, world):
        async with world(memory=TALK) as (agents, _, _):
            run = await agents.run(ME, RunRequest("lead", "hi", session="s" * 256))
            (child,) = await children(agents, run.id)
        assert len(child.session) == 64

    async def test_offers_the_model_what_the_agent_says_of_itself(self, world):
        identity = {"description": "Finds things out."}
        async with world(identity=identity) as (agents, above, _):
            await agents.run(ME, ASK)
        (tool,) = above.requests[0].body["tools"]
        assert tool["function"]["description"] == "Finds things out."
        assert tool["function"]["parameters"]["required"] == ["query"]

    async def test_may_be_of_an_agent_with_another_name_than_the_tool(self, world):
        tools = [{"name": "find", "type": "agent", "agent": "worker", "description": "Finds."}]
        leads = Reply((), calls=[asks(name="find")]), Reply(("Done",))
        async with world(leads, lead={"tools": tools}) as (agents, above, _):
            await agents.run(ME, ASK)
        assert observed(above) == "Nothing"

    async def test_with_parameters_of_its_own_gives_the_agent_the_arguments(self, world):
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        tools = [{**WORKER[0], "parameters": schema}]
        leads = Reply((), calls=[Call("worker", '{"city": "Bern"}')]), Reply(("Done",))
        async with world(leads, lead={"tools": tools}) as (agents, _, below):
            await agents.run(ME, ASK)
        assert below.requests[0].body["messages"][-1]["content"] == '{"city": "Bern"}'

    async def test_is_made_at_the_same_time_as_others(self, world):
        leads = Reply((), calls=[asks("one", id="a"), asks("two", id="b")]), Reply(("Done",))
        go = asyncio.Event()
        async with world(leads, (Reply(("Once",), hold=go),)) as (agents, above, below):
            running = asyncio.create_task(agents.run(ME, ASK))
            while len(below.requests) < 2:  # noqa: ASYNC110  # the model server tells nobody
                await asyncio.sleep(0.01)
            go.set()
            await running
        results = above.requests[1].body["messages"][-2:]
        assert [each["tool_call_id"] for each in results] == ["a", "b"]

    async def test_may_have_its_result_cut(self, world):
        tools = [{**WORKER[0], "max_result_tokens": 20}]
        async with world(works=(Reply(("x" * 1000,)),), lead={"tools": tools}) as (
            agents,
            above,
            _,
        ):
            await agents.run(ME, ASK)
        assert "tokens cut]" in observed(above)


class TestAnAgentThatGivesNoAnswer:
    @pytest.mark.parametrize("arguments", ["{}", "nonsense", "[]", '{"query": 5}'])
    async def test_was_not_asked_with_arguments_that_do_not_fit(self, world, arguments):
        leads = Reply((), calls=[Call("worker", arguments)]), Reply(("Done",))
        async with world(leads) as (agents, above, below):
            events = await seen(agents.stream(ME, ASK))
        (result,) = of(events, ToolReturned)
        assert result.outcome is Outcome.ERROR
        assert "arguments" in observed(above)
        assert below.requests == []

    async def test_has_failed_and_its_parent_hears_why(self, world):
        async with world(works=(refuses(401, "no key"),)) as (agents, above, _):
            run = await agents.run(ME, ASK)
            (child,) = await children(agents, run.id)
        assert (run.state, child.state) == (RunState.COMPLETED, RunState.FAILED)
        assert "'worker' gave no answer: it failed" in observed(above)

    async def test_was_blocked_by_a_rule_and_its_parent_hears_which(self, world):
        rule = {"type": "content_filter", "action": "block", "keywords": ["find"]}
        async with world(guardrails={"input": [rule]}) as (agents, above, below):
            await agents.run(ME, ASK)
        assert "a guardrail blocked it" in observed(above)
        assert below.requests == []

    async def test_was_out_of_the_time_that_its_tool_has(self, world):
        tools = [{**WORKER[0], "timeout": 0.2}]
        works = (Reply(("Hm",), then=Then.HANG),)
        async with world(works=works, lead={"tools": tools}) as (agents, above, _):
            run = await agents.run(ME, ASK)
        assert run.state is RunState.COMPLETED
        assert "its time was over" in observed(above)

    async def test_was_out_of_the_time_of_its_parent(self, world):
        hangs = (Reply(("Hm",), then=Then.HANG),)
        for seconds in SOON_ENOUGH:
            lead = {"orchestration": {"timeout_seconds": seconds}}
            async with world((LEADS[0], *hangs), hangs, lead=lead) as (agents, _, below):
                run = await agents.run(ME, ASK)
                if below.asked.is_set():  # by then
                    await asyncio.wait_for(below.left.wait(), PROMPTLY)
                    (child,) = await children(agents, run.id)
                    break
        assert (run.state, child.state) == (RunState.TIMED_OUT, RunState.TIMED_OUT)

    async def test_was_cancelled_alone(self, world):
        works = (Reply(("Hm",), then=Then.HANG),)
        async with world(works=works) as (agents, above, below):
            run = await agents.create_run(ME, ASK)
            await below.asked.wait()
            (child,) = await children(agents, run.id)
            await agents.cancel(ME, child.id)
            await seen(agents.events(ME, run.id))
            assert (await agents.get_run(ME, run.id)).state is RunState.COMPLETED
        assert "somebody cancelled it" in observed(above)


class TestWhatATreeSpends:
    async def test_is_spent_by_its_first_run(self, world, tmp_path):
        budget = {"window": "run", "limit": {"tokens": 5000}}
        document = {"apiVersion": "astromesh/v1", "kind": "Budget", "metadata": {"name": "tree"}}
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "budgets.yaml").write_text(json.dumps({**document, "spec": budget}))
        works = (Reply(("Nothing",), completion_tokens=6000),)
        async with world(works=works) as (agents, above, _):
            with pytest.raises(Exhausted) as refused:
                await agents.run(ME, ASK)
        assert refused.value.facts["budget"] == "tree"
        assert len(above.requests) == 1


class TestASupervisor:
    async def test_hands_out_work_until_it_is_done(self, world):
        leads = Reply((), calls=[asks("one")]), Reply((), calls=[asks("two")]), Reply(("Done",))
        async with world(leads, lead=SUPERVISOR) as (agents, _, below):
            run = await agents.run(ME, ASK)
        assert (run.answer, run.iterations) == ("Done", 3)
        assert [each.body["messages"][-1]["content"] for each in below.requests] == ["one", "two"]

    async def test_is_offered_nothing_but_its_agents(self, world):
        tools = [*WORKER, {"name": "calculator"}]
        leads = Reply((), calls=[SUM]), Reply(("Done",))
        async with world(leads, lead={**SUPERVISOR, "tools": tools}) as (agents, above, _):
            await agents.run(ME, ASK)
        assert [tool["function"]["name"] for tool in above.requests[0].body["tools"]] == ["worker"]
        assert "no tool 'calculator'" in observed(above)


class TestAnAgentThatCanNotRun:
    @pytest.fixture
    def listed(self, reached, tmp_path):
        """Agents by name, with the sub-agents that each one has; gives what is wrong with each."""

        @contextlib.asynccontextmanager
        async def made(**named):
            manifests = [
                agent(
                    name, "http://127.0.0.1:1", tools=[{"name": n, "type": "agent"} for n in subs]
                )
                for name, subs in named.items()
            ]
            async with mesh_of(tmp_path, *manifests) as mesh, reached(mesh) as agents:
                yield agents

        return made

    async def problem(self, agents, name):
        record = await agents.get(ME, name)
        return "" if record.ready else record.reason

    async def test_names_an_agent_that_is_not_there(self, listed):
        async with listed(lead=["workr"], worker=[]) as agents:
            said = await self.problem(agents, "lead")
            assert "spec.tools[0].name: there is no agent 'workr'; did you mean 'worker'?" in said
            assert await self.problem(agents, "worker") == ""

    async def test_names_one_that_names_an_unknown_one_is_not_such_an_agent(self, listed):
        async with listed(top=["lead"], lead=["nobody"]) as agents:
            assert "there is no agent 'nobody'" in await self.problem(agents, "lead")
            assert await self.problem(agents, "top") == ""

    async def test_would_call_itself(self, listed):
        async with listed(lead=["lead"]) as agents:
            assert "would call itself" in await self.problem(agents, "lead")

    async def test_is_part_of_a_circle(self, listed):
        async with listed(a=["b"], b=["c"], c=["a"], d=[]) as agents:
            assert "a -> b -> c -> a is a circle" in await self.problem(agents, "a")
            assert "b -> c -> a -> b is a circle" in await self.problem(agents, "b")
            assert await self.problem(agents, "d") == ""

    async def test_leads_into_a_circle(self, listed):
        async with listed(top=["a"], a=["b"], b=["a"]) as agents:
            assert "a -> b -> a is a circle" in await self.problem(agents, "top")

    async def test_goes_too_deep(self, listed):
        chain = {f"a{n}": [f"a{n + 1}"] for n in range(9)} | {"a9": []}
        async with listed(**chain) as agents:
            assert "more than 8 levels" in await self.problem(agents, "a0")
            assert await self.problem(agents, "a1") == ""

    async def test_goes_too_deep_on_the_longer_of_two_ways(self, listed):
        chain = {f"a{n}": [f"a{n + 1}"] for n in range(8)} | {"a8": [], "top": ["a1", "a0"]}
        async with listed(**chain) as agents:
            assert "more than 8 levels" in await self.problem(agents, "top")

    async def test_may_meet_the_same_agent_on_two_ways(self, listed):
        async with listed(top=["a", "b"], a=["c"], b=["c"], c=[]) as agents:
            assert await self.problem(agents, "top") == ""

    async def test_says_so_when_it_is_to_run(self, listed):
        async with listed(a=["b"], b=["a"]) as agents:
            with pytest.raises(NotReady, match="circle") as refused:
                await agents.run(ME, RunRequest("a", "hi"))
        assert refused.value.reason == "AGENT_NOT_READY"


def costs(max_tokens):
    """Each model call of these tests uses nine tokens."""
    return {"guardrails": {"output": [{"type": "cost_limit", "max_tokens": max_tokens}]}}


class TestACostLimit:
    async def test_counts_what_sub_agents_have_used(self, world):
        async with world(lead=costs(18)) as (agents, above, _):
            run = await agents.run(ME, ASK)
        assert (run.state, run.block.rule) == (RunState.BLOCKED, "cost_limit")
        assert (run.total.tokens, len(above.requests)) == (9, 1)

    async def test_is_not_reached_below_it(self, world):
        async with world(lead=costs(19)) as (agents, _, _):
            assert (await agents.run(ME, ASK)).answer == "All is well"

    async def test_still_counts_them_when_the_run_has_waited(self, world):
        leads = (LEADS[0], *ASKS_FIRST)
        lead = costs(20) | {"tools": [*WORKER, *PAYS]}
        async with world(leads, lead=lead) as (agents, above, _):
            waiting = await agents.run(ME, ASK)
            assert waiting.state is RunState.WAITING_APPROVAL
            yes = Decision("2.0", Verdict.APPROVE)
            run = await agents.resume(ME, waiting.id, yes, wait=True)
        assert (run.state, len(above.requests)) == (RunState.BLOCKED, 2)
