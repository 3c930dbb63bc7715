"""Runs whose store is slow or broken, whose callers leave at the worst moment, or both."""

import asyncio
from contextlib import aclosing

import pytest

from servers.domain.run_events import Completed, ToolCalled
from servers.domain.runs import Durability, RunFilter, RunRequest, RunState
from servers.kernel.errors import Exhausted
from tests.patience import PATIENCE
from tests.scripted.http_server import Call, Reply, Then
from tests.unit.agents.troubled import ASK, FULL, HANGS, ME, NAMED, ended, idle, seen, settled


class TestTheEndIsTold:
    @pytest.mark.parametrize("durability", [Durability.STEP, Durability.EXIT])
    async def test_although_the_run_is_cancelled_while_it_is_written(self, alone, durability):
        method = "append" if durability is Durability.STEP else "create"
        async with alone() as (runtime, store, _):
            go = store.hold(method)
            work = RunRequest("helper", "hello?", durability=durability)
            watching = asyncio.create_task(seen(runtime.stream(ME, work)))
            await store.reached[method].wait()
            await settled()
            while not (active := list(runtime._active)) or active[0]._working:  # noqa: ASYNC110
                await asyncio.sleep(0)
            cancelling = asyncio.create_task(runtime.cancel(ME, active[0].id))
            await settled()
            go.set()
            events = await watching
            assert (await cancelling).state is RunState.COMPLETED
            assert [isinstance(e.payload, Completed) for e in events].count(True) == 1
            assert (await runtime.get_run(ME, events[-1].run_id)).answer == "Hello there"

    async def test_to_others_when_one_leaves_while_it_is_written(self, alone):
        async with alone() as (runtime, store, _):
            first = asyncio.create_task(seen(runtime.stream(ME, NAMED)))
            await store.reached["create"].wait()
            go = store.hold("append")
            await store.reached["append"].wait()
            (active,) = runtime._active
            other = asyncio.create_task(seen(runtime.events(ME, active.id)))
            await settled()
            first.cancel()
            await settled()
            go.set()
            assert (await other)[-1].payload.run.state.terminal

    async def test_when_it_is_cancelled_twice(self, alone):
        async with alone(HANGS) as (runtime, _, model):
            run = await runtime.create_run(ME, ASK)
            await model.asked.wait()
            both = await asyncio.gather(*(runtime.cancel(ME, run.id) for _ in range(2)))
            assert {each.state for each in both} == {RunState.CANCELLED}
            assert (await ended(runtime, run.id)).state is RunState.CANCELLED

    async def test_when_tools_are_running(self, alone, tmp_path, monkeypatch):
        monkeypatch.setenv("EFFECTS_DIR", str(tmp_path))
        (tmp_path / "hold").touch()
        mails = [Call("send_mail", f'{{"to": "{who}"}}', id=who) for who in ("ada", "bob")]
        tools = [{"name": "send_mail", "function": "tests.faults.effects:send_mail"}]
        async with alone(Reply((), calls=mails), tools=tools) as (runtime, _, model):
            run = await runtime.create_run(ME, ASK)
            async with aclosing(runtime.events(ME, run.id)) as events:
                async for event in events:
                    if isinstance(event.payload, ToolCalled):
                        break
            while not (tmp_path / "sent").exists():  # noqa: ASYNC110  # written by a tool
                await asyncio.sleep(0.001)
            both = await asyncio.gather(*(runtime.cancel(ME, run.id) for _ in range(2)))
            assert [each.state for each in both] == [RunState.CANCELLED] * 2
            assert len(model.requests) == 1
            assert await idle(runtime)


class TestABrokenStore:
    @pytest.mark.parametrize("work", [ASK, NAMED], ids=["unnamed", "named"])
    async def test_tells_the_creator_and_leaves_nothing_behind(self, alone, work):
        async with alone() as (runtime, store, _):
            store.errors["create"] = FULL
            with pytest.raises(Exhausted):
                await runtime.create_run(ME, work)
            assert await idle(runtime)
            store.errors.clear()
            assert (await runtime.run(ME, work)).answer == "Hello there"

    async def test_in_the_middle_delays_a_run_until_it_can_be_written_again(self, alone):
        async with alone(Reply(("one",)), Reply(("two",))) as (runtime, store, _):
            store.errors["append"] = FULL
            watching = asyncio.create_task(seen(runtime.stream(ME, NAMED)))
            await store.reached["append"].wait()
            await asyncio.sleep(0.1)
            assert not watching.done()
            store.errors.clear()
            told = (await watching)[-1].payload.run
            assert (told.state, told.attempt) == (RunState.COMPLETED, 2)
            assert await runtime.get_run(ME, told.id) == told
            assert await idle(runtime)

    async def test_costs_no_model_call_while_it_lasts(self, alone):
        async with alone() as (runtime, store, model):
            store.errors["append"] = FULL
            run = await runtime.create_run(ME, ASK)
            await asyncio.sleep(2.5)  # it is tried again by now
            assert len(model.requests) == 1
            store.errors.clear()
            assert (await ended(runtime, run.id)).state is RunState.COMPLETED

    @pytest.mark.parametrize("method", ["create", "append"])
    async def test_by_a_fault_of_ours_takes_no_other_run_along(self, alone, method):
        async with alone(Reply(("one",), then=Then.HANG), Reply(("two",))) as (runtime, store, m):
            other = await runtime.create_run(ME, ASK)
            await m.asked.wait()
            store.errors[method] = ZeroDivisionError()
            work = RunRequest("helper", "hello?", durability=Durability.STEP)
            if method == "create":
                with pytest.raises(ZeroDivisionError):
                    await runtime.create_run(ME, work)
            else:
                await runtime.create_run(ME, work)
                await store.reached["append"].wait()
            assert not (await runtime.get_run(ME, other.id)).state.terminal
            store.errors.clear()
            assert (await runtime.cancel(ME, other.id)).state is RunState.CANCELLED


class TestARequestId:
    async def test_whose_first_caller_leaves_during_admission_serves_the_second(self, alone):
        async with alone() as (runtime, store, model):
            go = store.hold("create")
            first = asyncio.create_task(runtime.run(ME, NAMED))
            await store.reached["create"].wait()
            second = asyncio.create_task(runtime.run(ME, NAMED))
            await store.reached["requested"].wait()
            await settled()
            first.cancel()
            await settled()
            go.set()
            async with asyncio.timeout(PATIENCE):
                assert (await second).answer == "Hello there"
            assert len(model.requests) == 1

    async def test_that_can_not_be_put_on_record_tells_all_who_wait(self, alone):
        async with alone() as (runtime, store, _):
            go = store.hold("create")
            both = [asyncio.create_task(runtime.run(ME, NAMED)) for _ in range(2)]
            await store.reached["create"].wait()
            await settled()
            store.errors["create"] = FULL
            go.set()
            async with asyncio.timeout(PATIENCE):
                told = await asyncio.gather(*both, return_exceptions=True)
            assert [type(each) for each in told] == [Exhausted, Exhausted]
            assert await idle(runtime)

    async def test_whose_only_caller_leaves_during_admission_ends_on_record(self, alone):
        async with alone() as (runtime, store, model):
            go = store.hold("create")
            only = asyncio.create_task(runtime.run(ME, NAMED))
            await store.reached["create"].wait()
            only.cancel()
            await settled()
            go.set()
            assert await idle(runtime)
            (run,) = (await runtime.list_runs(ME, RunFilter())).runs
            assert run.state is RunState.CANCELLED
            assert model.requests == []

    async def test_of_a_background_run_gives_it_to_a_creator_who_had_left(self, alone):
        async with alone() as (runtime, store, model):
            go = store.hold("create")
            creator = asyncio.create_task(runtime.create_run(ME, NAMED))
            await store.reached["create"].wait()
            creator.cancel()
            await settled()
            go.set()
            run = await runtime.create_run(ME, NAMED)
            assert (await ended(runtime, run.id)).answer == "Hello there"
            assert len(model.requests) == 1

    async def test_is_on_record_before_the_second_caller_hears_of_it(self, alone):
        async with alone(HANGS) as (runtime, store, _):
            go = store.hold("create")
            both = [asyncio.create_task(runtime.create_run(ME, NAMED)) for _ in range(2)]
            await store.reached["create"].wait()
            await settled()
            assert not any(each.done() for each in both)
            go.set()
            first, second = await asyncio.gather(*both)
            assert first.id == second.id

    async def test_of_a_kept_run_gives_its_events_again(self, alone):
        work = RunRequest("helper", "hello?", request_id="r-1", durability=Durability.NONE)
        async with alone() as (runtime, _, _):
            first = await seen(runtime.stream(ME, work))
            assert await seen(runtime.stream(ME, work)) == first

    async def test_is_free_again_when_the_kept_run_is_forgotten(self, alone):
        first, second = (
            RunRequest("helper", "hello?", request_id=name, durability=Durability.NONE)
            for name in "ab"
        )
        async with alone(limits={"kept_runs": 1}) as (runtime, _, _):
            run = await runtime.run(ME, first)
            await runtime.run(ME, second)
            assert (await runtime.run(ME, first)).id != run.id
            assert len(runtime._active._requests) == len(runtime._active._kept) == 1
