"""Runs that are forgotten where two processes work over one database."""

import asyncio
from contextlib import aclosing, suppress

import pytest

from servers.domain.run_events import Completed
from servers.domain.runs import Purged, RunFilter, RunSelection, RunState
from servers.kernel.errors import NotFound, NotReady
from tests.contract.test_sub_agents_shared import ASK, PAYS, SUM, child_of, world
from tests.scripted.http_server import Reply
from tests.unit.agents.troubled import HANGS, ME

__all__ = ["world"]
HIS = RunSelection(agent="lead")


async def test_what_one_process_has_run_is_deleted_by_the_other(world):
    async with world(Reply(("Nothing",))) as (one, two, _, _):
        run = await one.run(ME, ASK)
        assert await two.purge_runs(ME, HIS) == Purged(2)
        for each in (one, two):
            with pytest.raises(NotFound):
                await each.get_run(ME, run.id)
            assert (await each.list_runs(ME, RunFilter())).runs == ()


async def test_what_one_process_works_on_is_left_by_the_other(world):
    async with world(HANGS) as (one, two, below, _):
        run = await one.create_run(ME, ASK)
        await below.asked.wait()
        with pytest.raises(NotReady) as caught:
            await two.delete_run(ME, run.id)
        assert caught.value.reason == "RUN_NOT_ENDED"
        assert await two.purge_runs(ME, HIS) == Purged(0, left=1)
        assert (await one.get_run(ME, run.id)).state is RunState.RUNNING


async def test_what_one_process_works_on_ends_there_where_the_other_is_forced_to_delete_it(world):
    async with world(HANGS) as (one, two, below, _):
        run = await one.create_run(ME, ASK)
        await below.asked.wait()
        assert await two.purge_runs(ME, HIS, force=True) == Purged(2)
        await asyncio.wait_for(below.left.wait(), 5)
        for each in (one, two):
            with pytest.raises(NotFound):
                await each.get_run(ME, run.id)


async def test_who_follows_a_waiting_run_in_one_process_hears_that_it_is_gone(world):
    async with world(SUM, tools=PAYS) as (one, two, _, _):
        run = await one.run(ME, ASK)
        child = await child_of(one, run)
        async with aclosing(one.events(ME, child.id)) as events, asyncio.timeout(10):
            await anext(events)
            await two.delete_run(ME, run.id, force=True)
            with suppress(NotFound):  # who had not seen the end before it was gone
                told = [event async for event in events]
                assert isinstance(told[-1].payload, Completed)
