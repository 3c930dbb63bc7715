"""A run that waits: from where and by whom it is seen and ended, both ways alike."""

import asyncio

import pytest

from servers.domain.caller import Caller
from servers.domain.memory import SessionKey
from servers.domain.run_events import Completed, StateChanged
from servers.domain.runs import Durability, RunFilter, RunRequest, RunState
from servers.domain.usage import UsageQuery
from servers.kernel.errors import InvalidInput, NotReady
from tests.contract.waiting_fixture import (
    APPROVE,
    ASK,
    CAREFUL,
    DONE,
    ME,
    WANTS,
    reached,
    seen,
    world,
)
from tests.running import agent, mesh_of
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

__all__ = ["reached", "world"]
IN_SESSION = RunRequest("helper", "hello?", session="s")
MEMORY = {"conversational": {"backend": "sqlite"}}


class TestAWaitingRun:
    async def test_ends_its_stream_with_the_state(self, world):
        async with world(WANTS, tools=CAREFUL) as (agents, _, _):
            events = await seen(agents.stream(ME, ASK))
        assert events[-1].payload == StateChanged(RunState.WAITING_APPROVAL)

    async def test_is_followed_across_its_wait(self, world):
        async with world(WANTS, DONE, tools=CAREFUL) as (agents, _, _):
            run = await agents.run(ME, ASK)
            watching = asyncio.create_task(seen(agents.events(ME, run.id)))
            await asyncio.sleep(0.1)
            await agents.resume(ME, run.id, APPROVE)
            events = await watching
        assert isinstance(events[-1].payload, Completed)
        sequences = [event.sequence for event in events]
        assert sequences == list(range(1, len(events) + 1))

    async def test_is_found_among_those_that_wait(self, world):
        async with world(WANTS, tools=CAREFUL) as (agents, _, _):
            run = await agents.run(ME, ASK)
            waiting = RunFilter(states=(RunState.WAITING_APPROVAL,))
            (found,) = (await agents.list_runs(ME, waiting)).runs
        assert (found.id, found.waiting[0].tool) == (run.id, "calculator")

    async def test_can_be_cancelled(self, world):
        async with world(WANTS, tools=CAREFUL) as (agents, _, _):
            run = await agents.run(ME, ASK)
            ended = await agents.cancel(ME, run.id, "no longer needed")
            assert (ended.state, ended.waiting) == (RunState.CANCELLED, ())
            assert (await agents.get_run(ME, run.id)).state is RunState.CANCELLED
            with pytest.raises(NotReady):
                await agents.resume(ME, run.id, APPROVE)

    async def test_keeps_its_session(self, world):
        async with world(WANTS, DONE, Reply(("later",)), tools=CAREFUL) as (agents, _, _):
            first = await agents.run(ME, IN_SESSION)
            second = await agents.create_run(ME, IN_SESSION)
            await asyncio.sleep(0.1)
            assert (await agents.get_run(ME, second.id)).state is RunState.QUEUED
            await agents.resume(ME, first.id, APPROVE, wait=True)
            events = await seen(agents.events(ME, second.id))
        assert events[-1].payload.run.answer == "later"

    async def test_refuses_another_of_its_session_where_the_agent_says_so(self, world):
        spec = {"tools": CAREFUL, "concurrency": "reject"}
        async with world(WANTS, **spec) as (agents, _, _):
            await agents.run(ME, IN_SESSION)
            with pytest.raises(NotReady) as refused:
                await agents.run(ME, IN_SESSION)
            assert refused.value.reason == "SESSION_BUSY"

    async def test_is_replaced_where_the_agent_says_so(self, world):
        spec = {"tools": CAREFUL, "concurrency": "replace"}
        async with world(WANTS, DONE, **spec) as (agents, _, _):
            first = await agents.run(ME, IN_SESSION)
            assert (await agents.run(ME, IN_SESSION)).answer == "It is 5"
            assert (await agents.get_run(ME, first.id)).state is RunState.CANCELLED

    async def test_is_remembered_only_when_it_has_ended(self, world):
        spec = {"tools": CAREFUL, "memory": MEMORY}
        async with world(WANTS, DONE, **spec) as (agents, _, mesh):
            run = await agents.run(ME, IN_SESSION)
            key = SessionKey("acme", "helper", "s")
            assert (await mesh.memory.turns(key)).turns == ()
            await agents.resume(ME, run.id, APPROVE, wait=True)
            assert len((await mesh.memory.turns(key)).turns) == 2

    async def test_survives_the_process(self, reached, tmp_path):
        async with openai_server(WANTS, DONE) as model:
            helper = agent("helper", model.endpoint, tools=CAREFUL)
            async with mesh_of(tmp_path, helper) as mesh, reached(mesh) as agents:
                run = await agents.run(ME, ASK)
            async with mesh_of(tmp_path, helper) as mesh, reached(mesh) as agents:
                ended = await agents.resume(ME, run.id, APPROVE, wait=True)
                assert (ended.answer, ended.attempt) == ("It is 5", 1)
            assert len(model.requests) == 2

    async def test_of_durability_exit_is_on_record_while_it_waits(self, reached, tmp_path):
        exit = RunRequest("helper", "hello?", durability=Durability.EXIT)
        async with openai_server(WANTS, DONE) as model:
            helper = agent("helper", model.endpoint, tools=CAREFUL)
            async with mesh_of(tmp_path, helper) as mesh, reached(mesh) as agents:
                run = await agents.run(ME, exit)
            async with mesh_of(tmp_path, helper) as mesh, reached(mesh) as agents:
                ended = await agents.resume(ME, run.id, APPROVE, wait=True)
                events = await seen(agents.events(ME, run.id))
        assert ended.answer == "It is 5"
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))

    async def test_of_durability_none_is_refused_at_the_start(self, world):
        nothing_kept = RunRequest("helper", "hello?", durability=Durability.NONE)
        async with world(WANTS, tools=CAREFUL) as (agents, _, _):
            with pytest.raises(NotReady) as refused:
                await agents.run(ME, nothing_kept)
            assert refused.value.reason == "NOT_DURABLE"

    async def test_given_its_request_id_again_is_the_same_run(self, world):
        named = RunRequest("helper", "hello?", request_id="r-1")
        async with world(WANTS, tools=CAREFUL) as (agents, model, _):
            first, again = await agents.run(ME, named), await agents.run(ME, named)
            assert (first.id, first.state) == (again.id, again.state)
            assert len(model.requests) == 1


class TestAPosition:
    async def test_beyond_the_end_of_a_log_is_refused(self, world):
        async with world(DONE) as (agents, _, _):
            run = await agents.run(ME, ASK)
            with pytest.raises(InvalidInput) as refused:
                await seen(agents.events(ME, run.id, 1000))
            assert refused.value.reason == "CURSOR_BEYOND_END"


class TestTheCaller:
    async def test_is_on_record_and_pays_for_what_follows_a_wait(self, world):
        async with world(WANTS, DONE, tools=CAREFUL) as (_, _, mesh):
            run = await mesh.agents.run(ME, ASK)
            ended = await mesh.agents.resume(Caller("acme", "bob"), run.id, APPROVE, wait=True)
            (used,) = await mesh.router.usage(UsageQuery(group_by=("principal",)))
        assert ended.principal == "ann"
        assert (used.group, used.calls) == ({"principal": "ann"}, 2)
