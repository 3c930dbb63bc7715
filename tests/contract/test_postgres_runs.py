"""What is particular about runs in PostgreSQL: several processes work on them at a time.

Each store here has an owner of its own, as those of several processes have.
"""

import asyncio
import time
from contextlib import AsyncExitStack

import pytest

from servers.agents.ports import Beat
from servers.domain.run_events import Restarted, StateChanged, TextDelta
from servers.domain.runs import RunState
from servers.kernel.errors import Conflict, NotReady
from tests.contract import run_fixture
from tests.contract.run_fixture import (
    REPLIED,
    STARTED,
    a_run,
    ended,
    event,
    ids,
    said,
    timed_run,
    waiting_run,
)
from tests.patience import PATIENCE

LONG = 600.0  # seconds that no test waits for


@pytest.fixture
def database(postgres):
    return postgres.schema()


@pytest.fixture
def passes(postgres, database):
    """Lets so many seconds of every lease pass."""
    schema = database.rpartition("=")[2]

    def passes(seconds):
        postgres.psql(
            f"UPDATE {schema}.astromesh_run SET lease_until = lease_until - {seconds} "
            "WHERE lease_until <> 0"
        )

    return passes


@pytest.fixture
async def process(database):
    """Opens the stores of one more process."""
    async with AsyncExitStack() as stack:

        async def process(lease=LONG):
            return await stack.enter_async_context(run_fixture.postgres(database, lease))

        yield process


@pytest.fixture
async def ours(process):
    return await process()


@pytest.fixture
async def theirs(process):
    return await process()


class TestTheLogOfAnotherProcess:
    async def test_can_be_read(self, ours, theirs):
        await ours.runs.create(a_run(), events=[STARTED, *said(2, 9)])
        assert await theirs.runs.get("acme", "r1") == a_run()
        assert await theirs.runs.events("r1") == [STARTED, *said(2, 9)]

    async def test_can_not_be_added_to(self, ours, theirs):
        await ours.runs.create(a_run(), events=[STARTED])
        with pytest.raises(Conflict) as caught:
            await theirs.runs.append("r1", said(2, 3), ended(a_run()))
        assert caught.value.reason == "FENCED"
        assert await ours.runs.events("r1") == [STARTED]
        assert await ours.runs.get("acme", "r1") == a_run()

    async def test_wakes_who_waits_for_it(self, ours, theirs):
        await ours.runs.create(a_run(), events=[STARTED])
        waiting = asyncio.create_task(theirs.runs.changed("r1", 1, LONG))
        await asyncio.sleep(0.2)
        assert not waiting.done()
        await ours.runs.append("r1", said(2, 3))
        async with asyncio.timeout(PATIENCE):
            await waiting

    async def test_has_the_same_run_for_the_same_request(self, ours, theirs):
        made = await asyncio.gather(
            ours.runs.create(a_run("r1", request_id="q"), "hash"),
            theirs.runs.create(a_run("r2", request_id="q"), "hash"),
        )
        assert sorted(new for _, new in made) == [False, True]
        assert made[0][0] == made[1][0]


class TestALease:
    async def test_keeps_others_off(self, ours, theirs):
        await ours.runs.create(a_run())
        assert await theirs.leases.claim((), 10) == []

    async def test_keeps_others_off_as_long_as_it_is_renewed(self, ours, theirs, passes):
        await ours.runs.create(a_run())
        for _ in range(3):
            passes(LONG / 2)
            assert await ours.leases.renew(["r1"]) == Beat()
            assert await theirs.leases.claim((), 10) == []

    async def test_that_ran_out_lets_another_go_on(self, ours, theirs, passes):
        await ours.runs.create(a_run(), events=[STARTED])
        passes(LONG)
        assert await theirs.leases.claim((), 10) == [(a_run(), [STARTED])]

    async def test_that_ran_out_can_be_renewed_while_nobody_else_came(self, ours, theirs, passes):
        await ours.runs.create(a_run())
        passes(LONG)
        assert await ours.leases.renew(["r1"]) == Beat()
        assert await theirs.leases.claim((), 10) == []
        await ours.runs.append("r1", [STARTED])

    async def test_that_was_lost_stops_its_former_owner(self, ours, theirs, passes):
        await ours.runs.create(a_run(), events=[STARTED])
        passes(LONG)
        await theirs.leases.claim((), 10)
        assert await ours.leases.renew(["r1"]) == Beat(lost=frozenset({"r1"}))
        with pytest.raises(Conflict):
            await ours.runs.append("r1", said(2, 3))
        await theirs.runs.append("r1", [event(1001, Restarted(2, 1))])
        assert await ours.runs.last_sequence("r1") == 1001

    async def test_is_still_lost_when_the_new_owner_is_done(self, ours, theirs, passes):
        await ours.runs.create(a_run())
        passes(LONG)
        await theirs.leases.claim((), 10)
        await theirs.runs.append("r1", [STARTED], ended(a_run()))
        assert (await ours.leases.renew(["r1"])).lost == {"r1"}

    async def test_that_is_released_lets_another_go_on_at_once(self, ours, theirs):
        await ours.runs.create(a_run("r1"))
        await ours.runs.create(a_run("r2"))
        await ours.leases.release(["r1"])
        assert ids(await theirs.leases.claim((), 10)) == ["r1"]

    async def test_that_is_released_is_news_for_others(self, ours, theirs):
        await ours.runs.create(a_run())
        await theirs.leases.news(0.2)
        hearing = asyncio.create_task(theirs.leases.news(LONG))
        await ours.leases.release(["r1"])
        async with asyncio.timeout(PATIENCE):
            await hearing

    async def test_that_is_released_at_the_end_of_a_process_is_news_too(self, database, theirs):
        await theirs.leases.news(0.2)
        hearing = asyncio.create_task(theirs.leases.news(LONG))
        async with run_fixture.postgres(database) as ours:
            await ours.runs.create(a_run())
            await ours.leases.release(["r1"])
        async with asyncio.timeout(PATIENCE):
            await hearing

    async def test_ends_with_the_run(self, ours, theirs):
        await ours.runs.create(a_run())
        await ours.runs.append("r1", [STARTED], ended(a_run()))
        assert await ours.leases.renew(["r1"]) == Beat()
        assert await theirs.leases.claim((), 10) == []

    async def test_is_had_by_one_of_many_who_claim_at_once(self, ours, process):
        others = [await process() for _ in range(4)]
        for number in range(40):
            await ours.runs.create(a_run(f"r{number:02}"))
        await ours.leases.release([f"r{number:02}" for number in range(40)])

        async def claimed(stores):
            found = []
            while some := ids(await stores.leases.claim(found, 3)):
                found += some
            return found

        found = await asyncio.gather(*map(claimed, others))
        assert sorted(each for some in found for each in some) == [f"r{n:02}" for n in range(40)]

    async def test_of_a_run_that_is_made_meanwhile_is_not_claimed_by_its_own_process(self, ours):
        """What a process claims besides its runs is never one that it has just begun."""
        claims, makings = [], []
        for number in range(50):
            busy = [f"r{n}" for n in range(number)]
            claims.append(asyncio.create_task(ours.leases.claim(busy, 100)))
            await asyncio.sleep(0)
            makings.append(asyncio.create_task(ours.runs.create(a_run(f"r{number}"))))
            await asyncio.sleep(0)
        await asyncio.gather(*makings)
        assert [ids(claimed) for claimed in await asyncio.gather(*claims)] == [[]] * 50


class TestATakeover:
    async def test_finds_all_that_was_acknowledged_and_nothing_comes_after(self, process):
        """However the appends of the former owner and the claim fall together."""
        for attempt in range(10):
            ours, theirs, run_id = await process(0.05), await process(), f"r{attempt}"
            await ours.runs.create(a_run(run_id))
            acknowledged: list[int] = []

            async def work(ours=ours, run_id=run_id, acknowledged=acknowledged):
                for sequence in range(1, 100_000):
                    await ours.runs.append(run_id, [event(sequence, TextDelta("x"), run_id)])
                    acknowledged.append(sequence)

            working = asyncio.create_task(work())
            async with asyncio.timeout(PATIENCE):
                while not (claimed := await theirs.leases.claim((), 10)):
                    pass
            ((_, log),) = claimed
            await asyncio.wait((working,))
            assert isinstance(working.exception(), Conflict)
            assert [e.sequence for e in log] == acknowledged
            assert await theirs.runs.events(run_id, 0, 1_000_000) == log


class TestAWaitingRun:
    async def test_is_nobodys(self, ours, theirs):
        await ours.runs.create(a_run(), events=[STARTED])
        await ours.runs.append("r1", [], waiting_run())
        assert await theirs.leases.take("acme", "r1") == (waiting_run(), [STARTED])
        with pytest.raises(Conflict):
            await ours.runs.append("r1", said(2, 3))
        await theirs.runs.append("r1", said(2, 3), a_run())

    async def test_is_taken_by_one_of_several_processes(self, ours, process):
        await ours.runs.create(waiting_run())
        others = [await process() for _ in range(4)]
        taken = [each.leases.take("acme", "r1") for each in (*others, *others)]
        outcomes = await asyncio.gather(*taken, return_exceptions=True)
        assert len([each for each in outcomes if isinstance(each, NotReady)]) == 7

    async def test_that_was_taken_can_be_taken_again_after_the_lease(self, ours, theirs, passes):
        await ours.runs.create(waiting_run())
        await ours.leases.take("acme", "r1")
        with pytest.raises(NotReady):
            await theirs.leases.take("acme", "r1")
        passes(LONG)
        assert ids([await theirs.leases.take("acme", "r1")]) == ["r1"]

    async def test_goes_on_by_its_timer_in_one_process(self, ours, process):
        await ours.runs.create(timed_run(5.0))
        others = [await process() for _ in range(4)]
        claimed = await asyncio.gather(*(each.leases.claim((), 10) for each in others))
        assert sorted(len(each) for each in claimed) == [0, 0, 0, 1]

    async def test_is_not_renewed_by_its_former_owner(self, ours, theirs):
        await ours.runs.create(a_run())
        await ours.runs.append("r1", [], waiting_run())
        await ours.leases.renew(["r1"])
        assert ids([await theirs.leases.take("acme", "r1")]) == ["r1"]


class TestACancel:
    async def test_reaches_the_owner(self, ours, theirs):
        await ours.runs.create(a_run())
        await theirs.leases.ask_cancel("acme", "r1", "no longer wanted")
        assert await ours.leases.renew(["r1"]) == Beat(cancelled={"r1": "no longer wanted"})

    async def test_is_news_for_the_owner_at_once(self, ours, theirs):
        await ours.runs.create(a_run())
        await ours.leases.news(0.2)
        hearing = asyncio.create_task(ours.leases.news(LONG))
        await theirs.leases.ask_cancel("acme", "r1", "")
        async with asyncio.timeout(PATIENCE):
            await hearing

    async def test_reaches_who_takes_the_run_over(self, ours, theirs, passes):
        await ours.runs.create(a_run())
        await ours.leases.ask_cancel("acme", "r1", "no longer wanted")
        passes(LONG)
        await theirs.leases.claim((), 10)
        assert (await theirs.leases.renew(["r1"])).cancelled == {"r1": "no longer wanted"}
        assert (await ours.leases.renew(["r1"])).cancelled == {}


class TestTheOutbox:
    async def test_gives_each_end_to_one_of_several_processes(self, ours, process):
        for number in range(20):
            run = a_run(f"r{number:02}", webhook="https://example.test/told")
            await ours.runs.create(ended(run))
        others = [await process() for _ in range(4)]
        told = await asyncio.gather(*(each.outbox.undelivered(8, 60.0) for each in others))
        found = [run_id for some in told for run_id in ids(some)]
        assert len(found) == len(set(found))
        found += ids(await ours.outbox.undelivered(100, 60.0))
        assert sorted(found) == [f"r{number:02}" for number in range(20)]


class TestRetention:
    async def test_is_for_one_of_several_processes_at_a_time(self, ours, theirs):
        for number in range(20):
            await ours.runs.create(ended(a_run(f"r{number}")))
        forgotten = await asyncio.gather(
            *(each.retention.forget(15.0, 10) for each in (ours, theirs, ours, theirs))
        )
        assert sum(forgotten) == 20

    async def test_leaves_nothing_of_logs_that_are_made_smaller_meanwhile(
        self, ours, theirs, postgres, database
    ):
        schema = database.rpartition("=")[2]
        for number in (1, 2):
            run = ended(a_run(f"r{number}"), at=float(number))
            spoken = [*said(1, 9, run.id), event(10, REPLIED, run.id)]
            await ours.runs.create(run, events=spoken)
        postgres.psql(
            f"UPDATE {schema}.astromesh_run SET compacted = true WHERE run_id = 'r1';"
            f"CREATE FUNCTION {schema}.held() RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_advisory_xact_lock(35); RETURN OLD; END';"
            f"CREATE TRIGGER held BEFORE DELETE ON {schema}.astromesh_run "
            f"FOR EACH ROW EXECUTE FUNCTION {schema}.held()"
        )

        async def waiting(number: int, unless: asyncio.Task[int]) -> None:
            ask = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            async with asyncio.timeout(PATIENCE):
                found = 0
                while not unless.done() and found < number:
                    found = int(await asyncio.to_thread(postgres.psql, ask))

        holder = await theirs.runs._postgres.connect()
        await holder.execute("SELECT pg_advisory_lock(35)")
        forgetting = asyncio.create_task(ours.retention.forget(15.0, 10))
        await waiting(1, forgetting)
        compacting = asyncio.create_task(theirs.retention.compact(15.0, 10))
        await waiting(2, compacting)
        await holder.close()
        assert await forgetting == 2
        await compacting
        left = postgres.psql(f"SELECT count(*) FROM {schema}.astromesh_run_event")
        assert left == "0"

    async def test_forgets_an_unused_declaration_after_a_day(self, ours, postgres, database):
        schema = database.rpartition("=")[2]
        for digest, age in (("old", 86400 + 10), ("new", 86400 - 10)):
            await ours.versions.keep(digest, {"kind": "Agent"})
            postgres.psql(
                f"UPDATE {schema}.astromesh_agent_version SET kept_at = kept_at - {age} "
                f"WHERE digest = '{digest}'"
            )
        await ours.retention.forget(time.time(), 10)
        assert await ours.versions.kept("old") is None
        assert await ours.versions.kept("new") == {"kind": "Agent"}


class TestWritesTogether:
    async def test_keep_the_order_of_each_log(self, ours):
        for number in range(8):
            await ours.runs.create(a_run(f"r{number}"))
        appends = [
            ours.runs.append(f"r{n}", [event(s, StateChanged(RunState.RUNNING), f"r{n}")])
            for s in range(1, 21)
            for n in range(8)
        ]
        await asyncio.gather(*appends)
        for number in range(8):
            log = await ours.runs.events(f"r{number}")
            assert [e.sequence for e in log] == list(range(1, 21))

    async def test_do_not_suffer_for_one_that_is_refused(self, ours):
        await ours.runs.create(a_run("r1"), events=[STARTED])
        outcomes = await asyncio.gather(
            ours.runs.append("r1", [STARTED]),
            ours.runs.append("r9", [event(1, TextDelta("x"), "r9")]),
            ours.runs.create(a_run("r2")),
            ours.runs.create(a_run("r1")),
            return_exceptions=True,
        )
        assert [type(each).__name__ for each in outcomes] == [
            "Conflict",
            "NotFound",
            "tuple",
            "Conflict",
        ]

    async def test_do_not_suffer_for_one_that_can_not_be_written(self, ours):
        """PostgreSQL has no NUL in texts; no request comes this far with one."""
        broken, *sound = await asyncio.gather(
            ours.runs.create(a_run("r0", session="\0")),
            *(ours.runs.create(a_run(f"r{number}")) for number in range(1, 5)),
            return_exceptions=True,
        )
        assert "0x00" in str(broken)
        assert [run.id for run, _ in sound] == ["r1", "r2", "r3", "r4"]

    async def test_may_be_large(self, ours):
        texts = ["x" * (3 << 20), *("y" * (1 << 20) for _ in range(16))]
        for number in range(17):
            await ours.runs.create(a_run(f"r{number}"))
        logs = [[event(1, TextDelta(text), f"r{n}")] for n, text in enumerate(texts)]
        await asyncio.gather(*(ours.runs.append(log[0].run_id, log) for log in logs))
        for log in logs:
            assert await ours.runs.events(log[0].run_id) == log

    async def test_go_on_when_a_caller_leaves(self, ours):
        await ours.runs.create(a_run())
        leaving = asyncio.create_task(ours.runs.append("r1", [STARTED]))
        await asyncio.sleep(0)
        leaving.cancel()
        await ours.runs.append("r1", said(2, 3))
        assert await ours.runs.events("r1") == [STARTED, *said(2, 3)]

    async def test_and_renewals_do_not_get_in_each_others_way(self, ours):
        names = [f"r{number}" for number in range(16)]
        for name in names:
            await ours.runs.create(a_run(name))

        async def work(name):
            for sequence in range(1, 101):
                added = [event(sequence, StateChanged(RunState.RUNNING), name)]
                await ours.runs.append(name, added, a_run(name, iterations=sequence))

        async def beat():
            while True:
                assert await ours.leases.renew(names) == Beat()

        beating = asyncio.create_task(beat())
        await asyncio.gather(*map(work, names))
        assert not beating.done()
        beating.cancel()
        for name in names:
            assert (await ours.runs.get("acme", name)).iterations == 100
            assert await ours.runs.last_sequence(name) == 100
