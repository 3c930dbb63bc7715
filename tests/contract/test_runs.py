"""What `Agents` promises of runs, checked in process and over the wire alike."""

import asyncio
from contextlib import aclosing

import pytest

from servers.domain.caller import Caller
from servers.domain.run_events import (
    Completed,
    ModelReplied,
    StateChanged,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from servers.domain.runs import Durability, RunFilter, RunRequest, RunState, StopReason
from servers.domain.tools import Outcome
from servers.kernel.errors import InvalidInput, NotFound, Unavailable
from tests.contract.agent_fixture import ASK, ME, reached, seen, world
from tests.patience import PROMPTLY, SOON_ENOUGH
from tests.scripted.http_server import Call, Reply, Then, refuses

__all__ = ["reached", "world"]
ADD = Call("calculator", '{"expression": "2+3"}')
TOOLS = [{"name": "calculator"}]


def payloads(events, kind):
    return [event.payload for event in events if isinstance(event.payload, kind)]


class TestARun:
    async def test_answers_with_what_the_model_said(self, world):
        async with world(Reply(("Good ", "day"))) as (agents, _, _):
            run = await agents.run(ME, ASK)
        assert (run.answer, run.state, run.stop_reason) == (
            "Good day",
            RunState.COMPLETED,
            StopReason.ANSWER,
        )

    async def test_reports_what_each_model_used(self, world):
        async with world(Reply(prompt_tokens=11, completion_tokens=3)) as (agents, _, _):
            run = await agents.run(ME, ASK)
        (used,) = run.usage
        assert (used.provider, used.calls, used.usage.prompt_tokens) == ("openai_compat", 1, 11)
        assert used.usage.completion_tokens == 3

    async def test_calls_the_tools_that_the_model_wants(self, world):
        replies = Reply((), calls=[ADD]), Reply(("It is 5",))
        async with world(*replies, tools=TOOLS) as (agents, model, _):
            run = await agents.run(ME, ASK)
        tool_message = model.requests[1].body["messages"][-1]
        assert (tool_message["role"], tool_message["content"]) == ("tool", "5")
        assert (run.answer, run.iterations) == ("It is 5", 2)

    async def test_tells_the_model_of_a_tool_that_is_not_there(self, world):
        replies = Reply((), calls=[Call("launch", "{}")]), Reply(("Sorry",))
        async with world(*replies, tools=TOOLS) as (agents, model, _):
            run = await agents.run(ME, ASK)
        assert "calculator" in model.requests[1].body["messages"][-1]["content"]
        assert run.state is RunState.COMPLETED

    async def test_ends_with_the_best_answer_when_its_rounds_are_used_up(self, world):
        forever = Reply(("Hm",), calls=[ADD])
        spec = {"tools": TOOLS, "orchestration": {"pattern": "react", "max_iterations": 2}}
        async with world(forever, **spec) as (agents, _, _):
            run = await agents.run(ME, ASK)
        assert (run.state, run.stop_reason) == (RunState.COMPLETED, StopReason.MAX_ITERATIONS)
        assert run.answer == "Hm"

    async def test_that_fails_raises_what_it_failed_with(self, world):
        async with world(refuses(500)) as (agents, _, _):
            with pytest.raises(Unavailable) as failed:
                await agents.run(ME, ASK)
            run = await agents.get_run(ME, failed.value.facts["run_id"])
        assert run.state is RunState.FAILED
        assert run.failure.code == "Unavailable"

    async def test_after_a_failed_one_goes_well_again(self, world):
        async with world(refuses(500), refuses(500), Reply(("better",))) as (agents, _, _):
            with pytest.raises(Unavailable):
                await agents.run(ME, ASK)
            assert (await agents.run(ME, ASK)).answer == "better"

    async def test_out_of_the_agents_time_gives_what_there_was(self, world):
        half = Reply(("Once upon",), then=Then.HANG)
        for seconds in SOON_ENOUGH:
            limit = {"timeout_seconds": seconds}
            async with world(half, orchestration=limit) as (agents, model, _):
                run = await agents.run(ME, ASK)
                if run.answer:  # it had been said by then
                    await asyncio.wait_for(model.left.wait(), PROMPTLY)
                    break
        assert (run.state, run.answer) == (RunState.TIMED_OUT, "Once upon")
        assert run.stop_reason is StopReason.DEADLINE

    async def test_has_a_session_of_its_own_where_none_is_named(self, world):
        async with world() as (agents, _, _):
            first, second = await agents.run(ME, ASK), await agents.run(ME, ASK)
        assert first.session
        assert first.session != second.session

    @pytest.mark.parametrize("query", ["", "  \n"])
    async def test_without_a_query_is_refused(self, world, query):
        async with world() as (agents, _, _):
            with pytest.raises(InvalidInput) as refused:
                await agents.run(ME, RunRequest("helper", query))
        assert [each.field for each in refused.value.violations] == ["query"]

    async def test_of_an_unknown_agent_is_refused_with_the_nearest_name(self, world):
        async with world() as (agents, _, _):
            with pytest.raises(NotFound, match="helper"):
                await agents.run(ME, RunRequest("helpr", "hello?"))


class TestEvents:
    async def test_tell_the_whole_run_in_order(self, world):
        replies = Reply(("Let me see",), calls=[ADD]), Reply(("It is ", "5"))
        async with world(*replies, tools=TOOLS) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert payloads(events, StateChanged)[0].state is RunState.RUNNING
        assert [delta.text for delta in payloads(events, TextDelta)] == [
            "Let me see",
            "It is ",
            "5",
        ]
        (call,), (result,) = payloads(events, ToolCalled), payloads(events, ToolReturned)
        assert (call.name, result.call_id, result.content) == ("calculator", call.call_id, "5")
        assert len(payloads(events, ModelReplied)) == 2
        assert isinstance(events[-1].payload, Completed)

    async def test_end_with_the_run_as_it_is_on_record(self, world):
        async with world() as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
            assert events[-1].payload.run == await agents.get_run(ME, events[0].run_id)

    async def test_come_before_the_model_has_finished(self, world):
        async with (
            world(Reply(("first",), then=Then.HANG)) as (agents, _, _),
            aclosing(agents.stream(ME, ASK)) as events,
        ):
            async for event in events:
                if isinstance(event.payload, TextDelta):
                    break
        assert event.payload.text == "first"

    async def test_of_a_failed_run_end_with_its_failure(self, world):
        async with world(refuses(500)) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        assert events[-1].payload.run.state is RunState.FAILED

    async def test_of_an_ended_run_can_be_read_again(self, world):
        async with world() as (agents, _, _):
            live = await seen(agents.stream(ME, ASK))
            again = await seen(agents.events(ME, live[0].run_id))
        assert [(e.sequence, e.payload) for e in again] == [(e.sequence, e.payload) for e in live]

    async def test_go_on_after_a_position_without_a_gap(self, world):
        async with world(Reply(tuple("abcdef"))) as (agents, _, _):
            live = await seen(agents.stream(ME, ASK))
            rest = await seen(agents.events(ME, live[0].run_id, after_sequence=3))
        assert [event.sequence for event in rest] == [event.sequence for event in live[3:]]

    async def test_of_a_run_at_work_can_be_followed(self, world):
        go = asyncio.Event()
        async with world(Reply(("done",), hold=go)) as (agents, _, _):
            run = await agents.create_run(ME, ASK)
            watching = asyncio.create_task(seen(agents.events(ME, run.id)))
            go.set()
            assert (await watching)[-1].payload.run.answer == "done"

    async def test_of_an_unknown_run_are_refused(self, world):
        async with world() as (agents, _, _):
            with pytest.raises(NotFound):
                await seen(agents.events(ME, "nothing"))

    async def test_of_another_tenants_run_are_refused(self, world):
        async with world() as (agents, _, _):
            run = await agents.run(ME, ASK)
            with pytest.raises(NotFound):
                await seen(agents.events(Caller("other"), run.id))

    async def test_from_a_negative_position_are_refused(self, world):
        async with world() as (agents, _, _):
            with pytest.raises(InvalidInput):
                await seen(agents.events(ME, "r", after_sequence=-1))


class TestListing:
    async def test_shows_the_newest_first(self, world):
        async with world() as (agents, _, _):
            first, second = await agents.run(ME, ASK), await agents.run(ME, ASK)
            page = await agents.list_runs(ME, RunFilter())
        assert [run.id for run in page.runs] == [second.id, first.id]

    async def test_goes_on_where_a_page_ended(self, world):
        async with world() as (agents, _, _):
            runs = [await agents.run(ME, ASK) for _ in range(3)]
            first = await agents.list_runs(ME, RunFilter(), page_size=2)
            rest = await agents.list_runs(ME, RunFilter(), 2, first.next_page_token)
        assert [run.id for run in (*first.runs, *rest.runs)] == [r.id for r in reversed(runs)]
        assert rest.next_page_token == ""

    async def test_can_be_narrowed(self, world):
        async with world() as (agents, _, _):
            run = await agents.run(ME, RunRequest("helper", "hello?", session="s"))
            await agents.run(ME, ASK)
            of_session = await agents.list_runs(ME, RunFilter(session="s"))
            failed = await agents.list_runs(ME, RunFilter(states=(RunState.FAILED,)))
        assert [each.id for each in of_session.runs] == [run.id]
        assert failed.runs == ()

    async def test_shows_nothing_of_another_tenant(self, world):
        async with world() as (agents, _, _):
            await agents.run(ME, ASK)
            assert (await agents.list_runs(Caller("other"), RunFilter())).runs == ()


class TestDurability:
    async def test_none_leaves_nothing_on_record(self, world):
        async with world() as (agents, _, _mesh):
            ask = RunRequest("helper", "hello?", durability=Durability.NONE)
            run = await agents.run(ME, ask)
            assert (await agents.list_runs(ME, RunFilter())).runs == ()
            assert await agents.get_run(ME, run.id) == run  # while the process lives

    async def test_exit_puts_the_whole_run_on_record_at_its_end(self, world):
        async with world() as (agents, _, _):
            ask = RunRequest("helper", "hello?", durability=Durability.EXIT)
            run = await agents.run(ME, ask)
            assert (await agents.list_runs(ME, RunFilter())).runs == (run,)
            events = await seen(agents.events(ME, run.id))
        assert events[-1].payload.run == run

    async def test_step_has_the_run_on_record_before_its_caller_hears_of_it(self, world):
        async with world(Reply((), then=Then.HANG)) as (agents, _, _):
            run = await agents.create_run(ME, ASK)
            assert [each.id for each in (await agents.list_runs(ME, RunFilter())).runs] == [run.id]
            await agents.cancel(ME, run.id)


async def test_tool_calls_of_one_reply_run_in_parallel_and_answer_in_order(world):
    calls = [Call("calculator", f'{{"expression": "{n}*1"}}', id=f"c{n}") for n in range(5)]
    replies = Reply((), calls=calls), Reply(("done",))
    async with world(*replies, tools=TOOLS) as (agents, model, _):
        await agents.run(ME, ASK)
    results = model.requests[1].body["messages"][-5:]
    assert [(m["tool_call_id"], m["content"]) for m in results] == [
        (f"c{n}", str(n)) for n in range(5)
    ]


async def test_broken_arguments_are_told_to_the_model(world):
    replies = Reply((), calls=[Call("calculator", '{"expression": ')]), Reply(("sorry",))
    async with world(*replies, tools=TOOLS) as (agents, _model, _):
        events = await seen(agents.stream(ME, ASK))
    (result,) = payloads(events, ToolReturned)
    assert result.outcome is Outcome.ERROR
    assert events[-1].payload.run.state is RunState.COMPLETED
