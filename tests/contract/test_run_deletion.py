"""Runs that are forgotten, in process and over the wire alike."""

import asyncio
import sqlite3
from contextlib import aclosing, closing, suppress

import pytest

from servers.domain.caller import Caller
from servers.domain.run_events import Completed
from servers.domain.runs import Durability, Purged, RunFilter, RunRequest, RunSelection, RunState
from servers.kernel.errors import InvalidInput, NotFound, NotReady, Unavailable
from tests.contract.team_fixture import ASK, ASKS_FIRST, ME, PAYS, children, reached, seen, world
from tests.scripted.http_server import Reply, Then

__all__ = ["reached", "world"]
HIS = RunSelection("ada")
BOB = Caller("acme", "bob")
HANGS = Reply((), then=Then.HANG)
SAYS = Reply(("Fine",))


def work(durability=None, **other) -> RunRequest:
    return RunRequest("worker", "hi", durability=durability, **other)


async def known(agents, caller=ME) -> set[str]:
    return {run.id for run in (await agents.list_runs(caller, RunFilter())).runs}


async def refused(asked, error=NotReady):
    with pytest.raises(error) as caught:
        await asked
    return caught.value


class TestARun:
    @pytest.mark.parametrize("durability", Durability)
    async def test_that_has_ended_is_forgotten_wherever_it_is(self, world, durability):
        async with world(works=(SAYS,)) as (agents, _, _):
            run = await agents.run(ME, work(durability))
            await agents.delete_run(ME, run.id)
            for asked in (
                agents.get_run(ME, run.id),
                seen(agents.events(ME, run.id)),
                agents.run_tree(ME, run.id),
                agents.delete_run(ME, run.id),
                agents.cancel(ME, run.id),
            ):
                await refused(asked, NotFound)
            assert await known(agents) == set()

    @pytest.mark.parametrize("durability", Durability)
    async def test_takes_the_runs_of_its_sub_agents_along(self, world, durability):
        async with world() as (agents, _, _):
            run = await agents.run(ME, RunRequest("lead", "hi", durability=durability))
            kin = await children(agents, run.id)
            await agents.delete_run(ME, run.id)
            for each in kin:
                await refused(agents.get_run(ME, each.id), NotFound)
            assert await known(agents) == set()

    async def test_of_a_sub_agent_is_not_deleted_alone(self, world):
        async with world() as (agents, _, _):
            run = await agents.run(ME, ASK)
            (child,) = await children(agents, run.id)
            error = await refused(agents.delete_run(ME, child.id))
            assert error.reason == "RUN_IS_PART"
            assert error.facts["root_run_id"] == run.id
            assert await known(agents) == {run.id, child.id}

    @pytest.mark.parametrize("durability", Durability)
    async def test_that_works_is_left_and_says_what_to_do(self, world, durability):
        async with world(works=(HANGS,)) as (agents, _, below):
            run = await agents.create_run(ME, work(durability))
            await below.asked.wait()
            error = await refused(agents.delete_run(ME, run.id))
            assert error.reason == "RUN_NOT_ENDED"
            assert "CancelRun" in error.message
            assert (await agents.get_run(ME, run.id)).state is RunState.RUNNING
            await agents.cancel(ME, run.id)

    @pytest.mark.parametrize("durability", Durability)
    async def test_that_works_is_cancelled_first_where_it_is_forced(self, world, durability):
        async with world(works=(HANGS,)) as (agents, _, below):
            run = await agents.create_run(ME, work(durability))
            await below.asked.wait()
            watching = asyncio.create_task(seen(agents.events(ME, run.id)))
            await agents.delete_run(ME, run.id, force=True)
            await asyncio.wait_for(below.left.wait(), 5)
            with suppress(NotFound):  # who came to look after it was gone
                ended = (await watching)[-1].payload
                assert isinstance(ended, Completed)
                assert ended.run.state is RunState.CANCELLED
            await refused(agents.get_run(ME, run.id), NotFound)

    async def test_that_waits_is_left_with_its_tree_and_gone_where_it_is_forced(self, world):
        async with world(works=ASKS_FIRST, tools=PAYS) as (agents, _, _):
            run = await agents.run(ME, ASK)
            assert run.state is RunState.WAITING_RUN
            error = await refused(agents.delete_run(ME, run.id))
            assert error.facts["state"] == "waiting_run"
            await agents.delete_run(ME, run.id, force=True)
            assert await known(agents) == set()

    async def test_that_is_followed_while_it_waits_ends_its_stream(self, world):
        async with world(works=ASKS_FIRST, tools=PAYS) as (agents, _, _):
            run = await agents.run(ME, work())
            async with aclosing(agents.events(ME, run.id)) as events:
                await anext(events)
                await agents.delete_run(ME, run.id, force=True)
                with suppress(NotFound):
                    told = [event.payload async for event in events]
                    assert isinstance(told[-1], Completed)

    async def test_of_another_tenant_is_not_found(self, world):
        async with world(works=(SAYS,)) as (agents, _, _):
            run = await agents.run(ME, work())
            other = Caller("globex", "ada")
            await refused(agents.delete_run(other, run.id, force=True), NotFound)
            assert await agents.purge_runs(other, HIS, force=True) == Purged(0)
            assert await known(agents) == {run.id}

    @pytest.mark.parametrize("durability", Durability)
    async def test_lets_its_request_id_be_used_again(self, world, durability):
        async with world(works=(SAYS, SAYS)) as (agents, _, below):
            run = await agents.run(ME, work(durability, request_id="q"))
            await agents.delete_run(ME, run.id)
            again = await agents.run(ME, RunRequest("worker", "other", request_id="q"))
        assert again.id != run.id
        assert len(below.requests) == 2

    async def test_is_gone_from_the_files_when_it_is_asked_for_again_without_readers(
        self, world, tmp_path
    ):
        async with world(works=(SAYS,)) as (agents, _, _):
            run = await agents.run(ME, RunRequest("worker", "my secret"))
            with closing(sqlite3.connect(tmp_path / "state" / "runs.db")) as reader:
                reader.execute("BEGIN")
                reader.execute("SELECT * FROM run").fetchone()
                error = await refused(agents.delete_run(ME, run.id), Unavailable)
                assert error.reason == "STORAGE_BUSY"
            await refused(agents.delete_run(ME, run.id), NotFound)
            files = [path.read_bytes() for path in (tmp_path / "state").glob("runs.db*")]
            assert files
            assert not any(b"my secret" in data for data in files)

    async def test_leaves_its_session_to_the_next_one(self, world):
        async with world(works=(HANGS, SAYS)) as (agents, _, below):
            first = await agents.create_run(ME, work(session="s"))
            await below.asked.wait()
            second = await agents.create_run(ME, work(session="s"))
            await agents.delete_run(ME, first.id, force=True)
            assert (await seen(agents.events(ME, second.id)))[-1].payload.run.answer == "Fine"


class TestAPurge:
    async def test_takes_those_of_one_who_asked_and_of_nobody_else(self, world):
        async with world(works=(SAYS,) * 5) as (agents, _, _):
            for durability in Durability:
                await agents.run(ME, work(durability))
            others = await agents.run(BOB, work()), await agents.run(Caller("acme"), work())
            assert await agents.purge_runs(ME, HIS) == Purged(3)
            assert await known(agents) == {run.id for run in others}
            assert await agents.purge_runs(ME, HIS) == Purged(0)

    async def test_counts_the_runs_of_sub_agents(self, world):
        async with world() as (agents, _, _):
            await agents.run(ME, ASK)
            assert await agents.purge_runs(ME, RunSelection(agent="lead")) == Purged(2)

    async def test_takes_those_of_a_session(self, world):
        async with world(works=(SAYS,) * 3) as (agents, _, _):
            for session in ("s", "s", "t"):
                await agents.run(ME, work(session=session))
            assert await agents.purge_runs(BOB, RunSelection(session="s")) == Purged(2)
            assert len(await known(agents)) == 1

    async def test_takes_those_that_ended_before(self, world):
        async with world(works=(SAYS,) * 2) as (agents, _, _):
            _first, second = [await agents.run(ME, work()) for _ in range(2)]
            before = RunSelection(ended_before=second.ended_at)
            assert await agents.purge_runs(ME, before) == Purged(1)
            assert await known(agents) == {second.id}

    @pytest.mark.parametrize("durability", Durability)
    async def test_leaves_those_that_go_on_and_says_how_many(self, world, durability):
        async with world(works=(SAYS, HANGS)) as (agents, _, below):
            await agents.run(ME, work())
            below.asked.clear()
            run = await agents.create_run(ME, work(durability))
            await below.asked.wait()
            assert await agents.purge_runs(ME, HIS) == Purged(1, left=1)
            assert (await agents.get_run(ME, run.id)).state is RunState.RUNNING
            assert await agents.purge_runs(ME, HIS, force=True) == Purged(1)
            await refused(agents.get_run(ME, run.id), NotFound)

    async def test_takes_trees_that_wait_where_it_is_forced(self, world):
        async with world(works=ASKS_FIRST, tools=PAYS) as (agents, _, _):
            await agents.run(ME, ASK)
            assert await agents.purge_runs(ME, HIS) == Purged(0, left=1)
            assert await agents.purge_runs(ME, HIS, force=True) == Purged(2)
            assert await known(agents) == set()

    async def test_that_is_only_asked_what_it_would_do_deletes_nothing(self, world):
        async with world(works=(SAYS, SAYS, HANGS)) as (agents, _, below):
            await agents.run(ME, work())
            await agents.run(ME, work(Durability.NONE))
            below.asked.clear()
            going = await agents.create_run(ME, work())
            await below.asked.wait()
            counted = [
                await agents.purge_runs(ME, HIS, force=force, validate_only=True)
                for force in (False, True)
            ]
            assert counted == [Purged(2, left=1), Purged(3)]
            assert await agents.purge_runs(ME, HIS) == Purged(2, left=1)
            await agents.cancel(ME, going.id)

    async def test_that_is_only_asked_counts_what_works_and_is_not_on_record(self, world):
        async with world(works=(HANGS,)) as (agents, _, below):
            await agents.create_run(ME, work(Durability.NONE))
            await below.asked.wait()
            would = await agents.purge_runs(ME, HIS, force=True, validate_only=True)
            assert would == Purged(1)
            assert await agents.purge_runs(ME, HIS, validate_only=True) == Purged(0, left=1)
            assert await agents.purge_runs(ME, HIS, force=True) == would

    async def test_of_everything_has_to_be_meant(self, world):
        async with world(works=(SAYS,)) as (agents, _, _):
            await agents.run(BOB, work())
            for which in (RunSelection(), RunSelection("bob", all=True)):
                error = await refused(agents.purge_runs(ME, which), InvalidInput)
                assert [each.field for each in error.violations] == ["all"]
            assert await agents.purge_runs(ME, RunSelection(all=True)) == Purged(1)


class TestAnExport:
    async def test_lists_the_runs_of_one_who_asked_with_those_of_sub_agents(self, world):
        async with world(works=(Reply(("Nothing",)), SAYS)) as (agents, _, _):
            run = await agents.run(ME, ASK)
            await agents.run(BOB, work())
            page = await agents.list_runs(ME, RunFilter(principal="ada"))
        assert {each.tree for each in page.runs} == {run.id}
        assert len(page.runs) == 2

    async def test_has_the_events_that_there_are_by_now(self, world):
        async with world(works=ASKS_FIRST, tools=PAYS) as (agents, _, _):
            run = await agents.run(ME, work())
            told = await seen(agents.events(ME, run.id, past_only=True))
            assert told != []
            assert not isinstance(told[-1].payload, Completed)
            after = told[0].sequence
            assert await seen(agents.events(ME, run.id, after, past_only=True)) == told[1:]
