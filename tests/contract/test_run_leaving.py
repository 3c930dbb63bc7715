"""Runs whose callers leave, or that somebody cancels, in process and over the wire alike."""

import asyncio
from contextlib import aclosing

import pytest

from servers.domain.run_events import TextDelta
from servers.domain.runs import OnDisconnect, RunFilter, RunState, StopReason
from servers.kernel.errors import NotFound, NotReady
from tests.contract.agent_fixture import ASK, ME, reached, seen, world
from tests.patience import PATIENCE, PROMPTLY
from tests.running import agent, mesh_of
from tests.scripted.http_server import Reply, Then, refuses
from tests.scripted.openai_server import openai_server

__all__ = ["reached", "world"]


class TestLeaving:
    async def test_a_stream_cancels_the_run_and_frees_the_model(self, world):
        async with world(Reply(("first",), then=Then.HANG)) as (agents, model, _):
            async with aclosing(agents.stream(ME, ASK)) as events:
                event = await anext(events)
                await asyncio.wait_for(model.asked.wait(), PATIENCE)
            await asyncio.wait_for(model.left.wait(), PROMPTLY)
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
            await asyncio.wait_for(model.asked.wait(), PATIENCE)
            waiting.cancel()
            await asyncio.wait_for(model.left.wait(), PROMPTLY)
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
            await asyncio.wait_for(model.left.wait(), PROMPTLY)
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
