"""Sub-agents whose runs are cancelled, wait, or go on, in process and over the wire alike."""

import asyncio

import pytest

from servers.domain.run_events import SubRunStarted
from servers.domain.runs import AskKind, Decision, Durability, RunRequest, RunState, Verdict
from servers.kernel.errors import NotReady
from tests.contract.team_fixture import (
    ASK,
    ASKS_FIRST,
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
from tests.patience import PATIENCE, PROMPTLY
from tests.scripted.http_server import Reply, Then

__all__ = ["reached", "world"]


class TestCancelling:
    async def test_a_run_cancels_its_sub_agents_and_their_requests(self, world):
        works = (Reply(("Hm",), then=Then.HANG),)
        async with world(works=works) as (agents, _, below):
            run = await agents.create_run(ME, ASK)
            await below.asked.wait()
            ended = await agents.cancel(ME, run.id, "enough")
            (child,) = await children(agents, run.id)
            await asyncio.wait_for(below.left.wait(), PROMPTLY)
        assert (ended.state, child.state) == (RunState.CANCELLED, RunState.CANCELLED)

    async def test_a_run_that_waits_for_one_ends_both(self, world):
        works = (Reply((), calls=[SUM]),)
        async with world(works=works, tools=PAYS) as (agents, _, _):
            run = await agents.run(ME, ASK)
            ended = await agents.cancel(ME, run.id)
            (child,) = await children(agents, run.id)
        assert (ended.state, child.state) == (RunState.CANCELLED, RunState.CANCELLED)


class TestAnApprovalInASubAgent:
    async def test_lets_the_whole_tree_wait(self, world):
        async with world(works=ASKS_FIRST, tools=PAYS) as (agents, _, _):
            run = await agents.run(ME, ASK)
            (child,) = await children(agents, run.id)
        assert (run.state, child.state) == (RunState.WAITING_RUN, RunState.WAITING_APPROVAL)
        (ask,) = run.waiting
        assert (ask.kind, ask.run_id, ask.tool) == (AskKind.RUN, child.id, "worker")

    async def test_is_given_to_the_one_that_asks_for_it_and_all_go_on(self, world):
        async with world(works=ASKS_FIRST, tools=PAYS) as (agents, above, below):
            run = await agents.run(ME, ASK)
            (child,) = await children(agents, run.id)
            await agents.resume(ME, child.id, Decision("", Verdict.APPROVE))
            events = await seen(agents.events(ME, run.id))
        assert events[-1].payload.run.answer == "All is well"
        assert observed(above) == "It is 5"
        assert len(below.requests) == 2
        assert len(of(events, SubRunStarted)) == 1

    async def test_can_not_be_given_to_its_parent_which_names_the_run(self, world):
        async with world(works=ASKS_FIRST, tools=PAYS) as (agents, _, _):
            run = await agents.run(ME, ASK)
            (child,) = await children(agents, run.id)
            with pytest.raises(NotReady, match=child.id) as refused:
                await agents.resume(ME, run.id, Decision("", Verdict.APPROVE))
        assert refused.value.reason == "RUN_NOT_WAITING"

    async def test_is_refused_to_a_run_that_keeps_nothing(self, world):
        work = RunRequest("lead", "hi", durability=Durability.NONE)
        async with world(works=ASKS_FIRST, tools=PAYS) as (agents, _, _):
            with pytest.raises(NotReady) as refused:
                await agents.run(ME, work)
        assert refused.value.reason == "NOT_DURABLE"

    async def test_of_a_call_of_an_agent_is_given_before_it_starts(self, world):
        tools = [{**WORKER[0], "requires_approval": True}]
        async with world(lead={"tools": tools}) as (agents, above, below):
            run = await agents.run(ME, ASK)
            assert (run.state, below.requests) == (RunState.WAITING_APPROVAL, [])
            done = await agents.resume(ME, run.id, Decision("", Verdict.APPROVE), wait=True)
        assert done.answer == "All is well"
        assert observed(above) == "Nothing"


class TestASubAgentThatGoesOn:
    async def test_has_what_its_parent_has_left(self, world):
        """The parent is at work on something else, which lasts longer than its time."""
        both = Reply((), calls=[asks(id="c1"), asks("wait", "other", id="c2")])
        tools = [*WORKER, {"name": "other", "type": "agent", "agent": "worker"}]
        works = ASKS_FIRST[0], Reply((), then=Then.HANG), Reply((), then=Then.HANG)
        lead = {"tools": tools, "orchestration": {"timeout_seconds": 5}}
        async with world((both,), works, lead=lead, tools=PAYS) as (agents, _, _):
            parent = await agents.create_run(ME, ASK)
            async with asyncio.timeout(PATIENCE):
                while not (waiting := await waiting_below(agents, parent)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            child = await agents.resume(
                ME, waiting[0].id, Decision("1.0", Verdict.APPROVE), wait=True
            )
        assert child.state is RunState.TIMED_OUT


async def waiting_below(agents, parent):
    return [run for run in await children(agents, parent.id) if run.state.waiting]
