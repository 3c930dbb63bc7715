"""Runs that share a session or a request id, in process and over the wire alike."""

import asyncio

import pytest

from servers.domain.caller import Caller
from servers.domain.chat import Role
from servers.domain.memory import SessionKey
from servers.domain.runs import Durability, RunRequest, RunState
from servers.kernel.errors import AlreadyExists, NotReady, Unavailable
from tests.contract.agent_fixture import ME, reached, seen, world
from tests.patience import PATIENCE
from tests.scripted.http_server import Reply, Then, refuses

__all__ = ["reached", "world"]
MEMORY = {"conversational": {"backend": "sqlite", "strategy": "sliding_window", "max_turns": 4}}


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
            await asyncio.wait_for(model.asked.wait(), PATIENCE)
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
            await asyncio.wait_for(model.asked.wait(), PATIENCE)
            with pytest.raises(NotReady) as refused:
                await agents.run(ME, work)
            await agents.cancel(ME, run.id)
        assert refused.value.reason == "SESSION_BUSY"

    async def test_replaces_the_run_at_work_where_the_agent_says_so(self, world):
        work = RunRequest("helper", "hello?", session="s")
        replies = Reply((), then=Then.HANG), Reply(("two",))
        async with world(*replies, concurrency="replace") as (agents, model, _):
            first = await agents.create_run(ME, work)
            await asyncio.wait_for(model.asked.wait(), PATIENCE)
            second = await agents.run(ME, work)
            replaced = await agents.get_run(ME, first.id)
        assert (second.answer, replaced.state) == ("two", RunState.CANCELLED)
