"""What `Agents` promises of runs, checked in process and over the wire alike."""

import asyncio
import contextlib
from contextlib import aclosing

import pytest

from servers.domain.caller import Caller
from servers.domain.chat import Role
from servers.domain.memory import SessionKey
from servers.domain.run_events import (
    Completed,
    ModelReplied,
    StateChanged,
    TextDelta,
    ToolCalled,
    ToolReturned,
)
from servers.domain.runs import (
    Durability,
    OnDisconnect,
    RunFilter,
    RunRequest,
    RunState,
    StopReason,
)
from servers.domain.tools import Outcome
from servers.kernel.errors import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    NotReady,
    Unavailable,
)
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.http_server import Call, Reply, Then, refuses
from tests.scripted.openai_server import openai_server

ME = Caller("acme")
ASK = RunRequest("helper", "hello?")
ADD = Call("calculator", '{"expression": "2+3"}')
TOOLS = [{"name": "calculator"}]
MEMORY = {"conversational": {"backend": "sqlite", "strategy": "sliding_window", "max_turns": 4}}


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
            yield agents, model, mesh

    return started


async def seen(events):
    async with aclosing(events):
        return [event async for event in events]


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
        async with world(half, orchestration={"timeout_seconds": 0.3}) as (agents, model, _):
            run = await agents.run(ME, ASK)
            await asyncio.wait_for(model.left.wait(), 2)
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


class TestLeaving:
    async def test_a_stream_cancels_the_run_and_frees_the_model(self, world):
        async with world(Reply(("first",), then=Then.HANG)) as (agents, model, _):
            async with aclosing(agents.stream(ME, ASK)) as events:
                event = await anext(events)
                await asyncio.wait_for(model.asked.wait(), 2)
            await asyncio.wait_for(model.left.wait(), 2)
            ended = (await seen(agents.events(ME, event.run_id)))[-1].payload.run
        assert (ended.state, ended.stop_reason) == (RunState.CANCELLED, StopReason.CANCELLED)

    async def test_a_stream_that_says_continue_lets_the_run_go_on(self, world):
        go = asyncio.Event()
        async with world(Reply(("done",), hold=go)) as (agents, _, _):
            events = agents.stream(ME, ASK, OnDisconnect.CONTINUE)
            async with aclosing(events):
                event = await anext(events)
            go.set()
            ended = (await seen(agents.events(ME, event.run_id)))[-1].payload.run
        assert ended.answer == "done"

    async def test_a_waiting_caller_cancels_the_run(self, world):
        async with world(Reply((), then=Then.HANG)) as (agents, model, _):
            waiting = asyncio.create_task(agents.run(ME, ASK))
            await asyncio.wait_for(model.asked.wait(), 2)
            waiting.cancel()
            await asyncio.wait_for(model.left.wait(), 2)
            page = await agents.list_runs(ME, RunFilter())
            ended = (await seen(agents.events(ME, page.runs[0].id)))[-1].payload.run
        assert ended.state is RunState.CANCELLED

    async def test_a_watcher_does_not_cancel(self, world):
        go = asyncio.Event()
        async with world(Reply(("done",), hold=go)) as (agents, _, _):
            run = await agents.create_run(ME, ASK)
            async with aclosing(agents.events(ME, run.id)) as events:
                await anext(events)
            go.set()
            assert (await seen(agents.events(ME, run.id)))[-1].payload.run.answer == "done"


class TestCancelling:
    async def test_ends_the_run_with_what_it_had_said(self, world):
        async with world(Reply(("Once upon",), then=Then.HANG)) as (agents, model, _):
            run = await agents.create_run(ME, ASK)
            async with aclosing(agents.events(ME, run.id)) as events:
                async for event in events:
                    if isinstance(event.payload, TextDelta):
                        break
            ended = await agents.cancel(ME, run.id, "changed my mind")
            await asyncio.wait_for(model.left.wait(), 2)
        assert (ended.state, ended.answer) == (RunState.CANCELLED, "Once upon")
        assert ended.total.estimated
        assert ended.total.completion_tokens == 1

    async def test_books_what_was_said_on_the_fallback_that_said_it(self, tmp_path, reached):
        first, then = {"provider": "openai_compat", "model": "first"}, {"model": "then"}
        async with openai_server(refuses(500), Reply(("Once",), then=Then.HANG)) as model:
            policy = {"primary": first | {"endpoint": model.endpoint}}
            policy["fallback"] = [policy["primary"] | then]
            helper = agent("helper", model.endpoint, model=policy)
            async with mesh_of(tmp_path, helper) as mesh, reached(mesh) as agents:
                run = await agents.create_run(ME, ASK)
                async with aclosing(agents.events(ME, run.id)) as events:
                    async for event in events:
                        if isinstance(event.payload, TextDelta):
                            break
                ended = await agents.cancel(ME, run.id)
        used = [(each.model, each.usage.completion_tokens) for each in ended.usage]
        assert used == [("then", 1)]

    async def test_of_an_ended_run_is_refused(self, world):
        async with world() as (agents, _, _):
            run = await agents.run(ME, ASK)
            with pytest.raises(NotReady) as refused:
                await agents.cancel(ME, run.id)
        assert refused.value.reason == "RUN_ENDED"

    async def test_of_an_unknown_run_is_refused(self, world):
        async with world() as (agents, _, _):
            with pytest.raises(NotFound):
                await agents.cancel(ME, "nothing")


class TestARequestId:
    async def test_seen_again_gives_the_same_run(self, world):
        ask = RunRequest("helper", "hello?", request_id="r-1")
        async with world() as (agents, model, _):
            first, second = await agents.run(ME, ask), await agents.run(ME, ask)
        assert first == second
        assert len(model.requests) == 1

    @pytest.mark.parametrize("durability", list(Durability))
    async def test_is_honoured_at_every_durability(self, world, durability):
        ask = RunRequest("helper", "hello?", request_id="r-1", durability=durability)
        async with world() as (agents, _, _):
            assert (await agents.run(ME, ask)).id == (await agents.run(ME, ask)).id

    async def test_sent_twice_at_once_is_one_run(self, world):
        ask = RunRequest("helper", "hello?", request_id="r-1")
        async with world() as (agents, model, _):
            first, second = await asyncio.gather(agents.run(ME, ask), agents.run(ME, ask))
        assert first.id == second.id
        assert len(model.requests) == 1

    async def test_of_another_request_is_refused(self, world):
        async with world() as (agents, _, _):
            await agents.run(ME, RunRequest("helper", "hello?", request_id="r-1"))
            with pytest.raises(AlreadyExists) as refused:
                await agents.run(ME, RunRequest("helper", "good bye", request_id="r-1"))
        assert refused.value.reason == "REQUEST_ID_REUSED"

    async def test_of_another_tenant_is_another_request(self, world):
        ask = RunRequest("helper", "hello?", request_id="r-1")
        async with world() as (agents, _, _):
            mine, theirs = await agents.run(ME, ask), await agents.run(Caller("other"), ask)
        assert mine.id != theirs.id


class TestASession:
    async def test_is_remembered_in_the_next_run(self, world):
        async with world(Reply(("Hi Ada",)), memory=MEMORY) as (agents, model, _):
            await agents.run(ME, RunRequest("helper", "I am Ada", session="s"))
            await agents.run(ME, RunRequest("helper", "Who am I?", session="s"))
        shown = [(m["role"], m["content"]) for m in model.requests[1].body["messages"]]
        assert shown == [("user", "I am Ada"), ("assistant", "Hi Ada"), ("user", "Who am I?")]

    async def test_keeps_nothing_of_a_failed_run(self, world):
        async with world(refuses(500), memory=MEMORY) as (agents, _, mesh):
            with pytest.raises(Unavailable):
                await agents.run(ME, RunRequest("helper", "I am Ada", session="s"))
            page = await mesh.memory.turns(SessionKey("acme", "helper", "s"))
        assert page.turns == ()

    async def test_keeps_both_turns_of_an_exchange(self, world):
        async with world(Reply(("Hi Ada",)), memory=MEMORY) as (agents, _, mesh):
            await agents.run(ME, RunRequest("helper", "I am Ada", session="s"))
            page = await mesh.memory.turns(SessionKey("acme", "helper", "s"))
        assert [(t.message.role, t.message.text) for t in page.turns] == [
            (Role.USER, "I am Ada"),
            (Role.ASSISTANT, "Hi Ada"),
        ]

    async def test_runs_one_run_at_a_time(self, world):
        go = asyncio.Event()
        work = RunRequest("helper", "hello?", session="s")
        async with world(Reply(("one",), hold=go), Reply(("two",))) as (agents, model, _):
            first = await agents.create_run(ME, work)
            await asyncio.wait_for(model.asked.wait(), 2)
            second = await agents.create_run(ME, work)
            assert second.state is RunState.QUEUED
            assert len(model.requests) == 1
            go.set()
            for run, answer in ((first, "one"), (second, "two")):
                ended = (await seen(agents.events(ME, run.id)))[-1].payload.run
                assert ended.answer == answer

    async def test_that_is_busy_is_refused_where_the_agent_says_so(self, world):
        work = RunRequest("helper", "hello?", session="s")
        async with world(Reply((), then=Then.HANG), concurrency="reject") as (agents, model, _):
            run = await agents.create_run(ME, work)
            await asyncio.wait_for(model.asked.wait(), 2)
            with pytest.raises(NotReady) as refused:
                await agents.run(ME, work)
            await agents.cancel(ME, run.id)
        assert refused.value.reason == "SESSION_BUSY"

    async def test_replaces_the_run_at_work_where_the_agent_says_so(self, world):
        work = RunRequest("helper", "hello?", session="s")
        replies = Reply((), then=Then.HANG), Reply(("two",))
        async with world(*replies, concurrency="replace") as (agents, model, _):
            first = await agents.create_run(ME, work)
            await asyncio.wait_for(model.asked.wait(), 2)
            second = await agents.run(ME, work)
            replaced = await agents.get_run(ME, first.id)
        assert (second.answer, replaced.state) == ("two", RunState.CANCELLED)


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
