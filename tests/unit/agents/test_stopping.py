"""Runs of a mesh that is stopped and started again, and sessions with many runs."""

import asyncio
import contextlib
from contextlib import aclosing

import pytest

from servers.domain.memory import SessionKey
from servers.domain.run_events import Restarted, TextDelta
from servers.domain.runs import Durability, OnDisconnect, RunRequest, RunState
from servers.kernel.errors import Exhausted, Unavailable
from tests.scripted.http_server import Reply, Then
from tests.unit.agents.troubled import (
    ASK,
    FULL,
    HANGS,
    IN_SESSION,
    ME,
    NAMED,
    ended,
    idle,
    seen,
    settled,
)


class TestASession:
    async def test_of_two_runs_at_once_takes_one_where_the_agent_says_reject(self, alone):
        async with alone(HANGS, concurrency="reject") as (runtime, _, _):
            told = await asyncio.gather(
                *(runtime.create_run(ME, IN_SESSION) for _ in range(2)), return_exceptions=True
            )
            assert sorted(type(each).__name__ for each in told) == ["NotReady", "Run"]

    async def test_is_bounded_for_a_burst(self, alone):
        async with alone(HANGS) as (runtime, _, _):
            told = await asyncio.gather(
                *(runtime.create_run(ME, IN_SESSION) for _ in range(110)), return_exceptions=True
            )
            refused = [each for each in told if isinstance(each, Exhausted)]
            assert len(refused) == 110 - 101
            assert {each.reason for each in refused} == {"SESSION_QUEUE_FULL"}

    async def test_keeps_the_last_of_many_that_replace_one_another(self, alone):
        replies = HANGS, Reply(("last",))
        async with alone(*replies, concurrency="replace") as (runtime, _, model):
            runs = [await runtime.create_run(ME, IN_SESSION)]
            await model.asked.wait()
            runs += await asyncio.gather(*(runtime.create_run(ME, IN_SESSION) for _ in range(3)))
            states = [(await ended(runtime, run.id)).state for run in runs]
            assert states == [RunState.CANCELLED] * 3 + [RunState.COMPLETED]
            assert await idle(runtime)

    async def test_is_free_when_the_one_at_work_and_one_that_waits_are_cancelled(self, alone):
        async with alone(HANGS, Reply(("third",))) as (runtime, _, model):
            runs = [await runtime.create_run(ME, IN_SESSION) for _ in range(3)]
            await model.asked.wait()
            first, second = await asyncio.gather(*(runtime.cancel(ME, run.id) for run in runs[:2]))
            assert [first.state, second.state] == [RunState.CANCELLED] * 2
            assert (await ended(runtime, runs[2].id)).answer == "third"
            assert not runtime._sessions.busy(SessionKey("acme", "helper", "s"))

    async def test_whose_time_passes_while_it_waits_leaves_the_line(self, alone):
        hurried = RunRequest("helper", "hello?", session="s", deadline=0.2)
        async with alone(HANGS) as (runtime, _, model):
            first = await runtime.create_run(ME, IN_SESSION)
            await model.asked.wait()
            late = await runtime.run(ME, hurried)
            assert (late.state, late.started_at) == (RunState.TIMED_OUT, None)
            await runtime.cancel(ME, first.id)
            assert await idle(runtime)


class TestStopping:
    async def test_does_not_wait_for_runs_that_come_while_it_drains(self, alone):
        async with alone(HANGS) as (runtime, store, model):
            go = store.hold("requested")
            late = asyncio.create_task(runtime.run(ME, NAMED))
            await store.reached["requested"].wait()
            await runtime.drain()
            go.set()
            with pytest.raises(Unavailable) as refused:
                await late
            assert refused.value.reason == "SHUTTING_DOWN"
            assert model.requests == []

    async def test_ends_a_run_that_is_being_put_on_record(self, alone):
        async with alone(HANGS) as (runtime, store, _):
            go = store.hold("create")
            creating = asyncio.create_task(runtime.create_run(ME, NAMED))
            await store.reached["create"].wait()
            await runtime.drain(hurry=True)
            go.set()
            assert not (await creating).state.terminal
            assert await idle(runtime)

    async def test_twice_loses_nothing(self, world):
        async with world(HANGS, Reply(("done",))) as here:
            async with here.runtime() as (runtime, _):
                run = await runtime.create_run(ME, ASK)
                await here.model.asked.wait()
                await asyncio.gather(runtime.drain(), runtime.drain(hurry=True))
            async with here.runtime() as (runtime, _):
                assert (await ended(runtime, run.id)).answer == "done"

    async def test_lets_a_cancelled_run_end_as_cancelled(self, world):
        async with world(HANGS) as here:
            async with here.runtime() as (runtime, _):
                run = await runtime.create_run(ME, ASK)
                await here.model.asked.wait()
                cancelling = asyncio.create_task(runtime.cancel(ME, run.id))
                await asyncio.sleep(0)
                await runtime.drain(hurry=True)
                assert (await cancelling).state is RunState.CANCELLED
            async with here.runtime() as (runtime, _):
                assert (await runtime.get_run(ME, run.id)).state is RunState.CANCELLED

    async def test_lets_readers_go_and_says_why(self, alone):
        async with alone(HANGS) as (runtime, _, model):
            run = await runtime.create_run(ME, ASK)
            await model.asked.wait()
            watching = asyncio.create_task(seen(runtime.events(ME, run.id)))
            await settled()
            await runtime.drain(hurry=True)
            with pytest.raises(Unavailable) as stopped:
                await watching
            assert stopped.value.reason == "MESH_STOPPED"


class TestStartingAgain:
    async def test_keeps_the_order_of_a_session_however_often(self, world):
        replies = HANGS, HANGS, Reply(("first",)), Reply(("second",)), Reply(("third",))
        async with world(*replies) as here:
            async with here.runtime() as (runtime, _):
                runs = [await runtime.create_run(ME, IN_SESSION) for _ in range(3)]
                await here.model.asked.wait()
            here.model.asked.clear()
            async with here.runtime():
                await here.model.asked.wait()
            async with here.runtime() as (runtime, _):
                told = [await ended(runtime, run.id) for run in runs]
        assert [run.answer for run in told] == ["first", "second", "third"]
        assert told[0].attempt == 3

    async def test_shows_nothing_before_the_new_attempt_is_on_record(self, world):
        async with world(HANGS, Reply(("done",))) as here:
            async with here.runtime() as (runtime, _):
                run = await runtime.create_run(ME, ASK)
                await here.model.asked.wait()
            async with here.runtime(lambda store: store.hold("append")) as (runtime, store):
                await store.reached["append"].wait()
                (active,) = runtime._active
                assert isinstance(active.log.events[-1].payload, Restarted)
                store.gates["append"].set()
                assert (await ended(runtime, run.id)).answer == "done"

    async def test_tells_the_loss_of_a_run_to_readers_that_have_seen_more(self, world):
        work = RunRequest("helper", "hello?", durability=Durability.EXIT)
        async with world(Reply(tuple("abcdef"), then=Then.HANG)) as here:
            async with here.runtime() as (runtime, store):
                run = await runtime.create_run(ME, work)
                async with aclosing(runtime.events(ME, run.id)) as events:
                    async for event in events:
                        if event.payload == TextDelta("f"):
                            break
                store.errors["append"] = FULL  # as if it had been killed
            async with here.runtime() as (runtime, _):
                rest = await seen(runtime.events(ME, run.id, event.sequence))
        assert rest[-1].payload.run.failure.reason == "RUN_LOST"

    async def test_does_not_bind_a_run_to_a_caller_that_looks_at_it(self, world):
        go = asyncio.Event()
        async with world(HANGS, Reply(("done",), hold=go)) as here:
            async with here.runtime() as (runtime, _):
                await runtime.create_run(ME, NAMED)
                await here.model.asked.wait()
            async with here.runtime() as (runtime, _):
                async with aclosing(runtime.stream(ME, NAMED)) as events:
                    event = await anext(events)
                go.set()
                assert (await ended(runtime, event.run_id)).answer == "done"

    async def test_that_fails_leaves_no_run_at_work(self, world):
        async with world(HANGS) as here:
            async with here.runtime() as (runtime, store):
                await runtime.create_run(ME, ASK)
                lost = RunRequest("helper", "hello?", durability=Durability.EXIT)
                await here.model.asked.wait()
                await runtime.create_run(ME, lost)
                store.errors["append"] = FULL  # as if it had been killed

            def broken(store):
                store.errors["append"] = FULL

            with pytest.raises(Exhausted):
                async with here.runtime(broken):
                    pass
            assert not [each for each in asyncio.all_tasks() if each.get_name()[:4] == "run-"]


class TestMany:
    async def test_are_refused_beyond_the_limit_with_the_time_to_come_back(self, alone):
        async with alone(HANGS, limits={"active_runs": 20}) as (runtime, _, _):
            told = await asyncio.gather(
                *(runtime.create_run(ME, ASK) for _ in range(500)), return_exceptions=True
            )
            refused = [each for each in told if isinstance(each, Exhausted)]
            assert (len(refused), len(runtime._active)) == (480, 20)
            assert {(each.reason, each.retry_after) for each in refused} == {("TOO_MANY_RUNS", 1.0)}

    async def test_readers_that_never_read_hold_nobody_up(self, alone):
        async with alone(Reply(tuple("x" * 5_000))) as (runtime, _, _):
            async with contextlib.AsyncExitStack() as stack:
                run = await runtime.create_run(ME, ASK)
                for _ in range(10):
                    idle_reader = runtime.stream(ME, ASK, OnDisconnect.CONTINUE)
                    await stack.enter_async_context(aclosing(idle_reader))
                    await anext(idle_reader)
                assert len((await ended(runtime, run.id)).answer) == 5_000
            assert await idle(runtime)
