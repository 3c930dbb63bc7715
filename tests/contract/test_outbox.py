"""What every outbox of ended runs promises."""

import asyncio
import time
from math import inf

import pytest

from tests.contract.run_fixture import ENDED, STARTED, a_run, ended, ids, the_end, waiting_run

HOOK = {"webhook": "https://example.test/told"}


@pytest.fixture
def store(stores):
    return stores.runs


@pytest.fixture
def outbox(stores):
    return stores.outbox


@pytest.fixture
async def told(store):
    """A run that has ended, and whose webhook is due."""
    run = ended(a_run(**HOOK))
    await store.create(a_run(**HOOK))
    await store.append("r1", [STARTED, the_end(2, run)], run)
    return run


class TestUndelivered:
    @pytest.mark.parametrize("state", ENDED)
    async def test_are_runs_that_ended(self, store, outbox, state):
        await store.create(a_run(**HOOK))
        await store.append("r1", [STARTED], ended(a_run(**HOOK), state))
        assert await outbox.undelivered(10, 60.0) == [(ended(a_run(**HOOK), state), 0)]

    async def test_are_runs_that_were_put_on_record_when_they_had_ended(self, store, outbox):
        await store.create(ended(a_run(**HOOK)))
        assert ids(await outbox.undelivered(10, 60.0)) == ["r1"]

    async def test_are_no_runs_at_work(self, store, outbox):
        await store.create(a_run(**HOOK))
        assert await outbox.undelivered(10, 60.0) == []

    async def test_are_no_runs_that_wait(self, store, outbox):
        await store.create(a_run(**HOOK))
        await store.append("r1", [STARTED], waiting_run(**HOOK))
        assert await outbox.undelivered(10, 60.0) == []

    async def test_are_no_runs_without_a_webhook(self, store, outbox):
        await store.create(a_run())
        await store.append("r1", [STARTED], ended(a_run()))
        assert await outbox.undelivered(10, 60.0) == []

    async def test_are_so_many_at_most(self, store, outbox):
        for number in range(5):
            await store.create(ended(a_run(f"r{number}", **HOOK)))
        first, second = await outbox.undelivered(3, 60.0), await outbox.undelivered(3, 60.0)
        assert (len(first), len(second)) == (3, 2)
        assert sorted(ids([*first, *second])) == ["r0", "r1", "r2", "r3", "r4"]

    async def test_are_the_askers_for_a_while(self, told, outbox):
        await outbox.undelivered(10, 60.0)
        assert await outbox.undelivered(10, 60.0) == []

    async def test_come_again_when_that_time_is_over(self, told, outbox):
        due = time.time() + 0.2
        await outbox.undelivered(10, 0.2)
        early = await outbox.undelivered(10, 60.0)
        assert early == [] or time.time() >= due
        await asyncio.sleep(0.3)
        assert (early or await outbox.undelivered(10, 60.0)) == [(told, 1)]

    async def test_survive_the_process(self, opening):
        async with opening() as stores:
            await stores.runs.create(ended(a_run(**HOOK)))
        async with opening() as stores:
            assert ids(await stores.outbox.undelivered(10, 60.0)) == ["r1"]


class TestDelivered:
    async def test_is_the_end_of_it(self, told, outbox):
        await outbox.undelivered(10, 0.0)
        await outbox.delivered("r1")
        assert await outbox.undelivered(10, 0.0) == []

    async def test_stays_so_when_the_run_is_written_again(self, told, store, outbox):
        await outbox.delivered("r1")
        await store.append("r1", [], told)
        assert await outbox.undelivered(10, 0.0) == []

    async def test_is_about_one_run(self, told, store, outbox):
        await store.create(ended(a_run("r2", **HOOK)))
        await outbox.delivered("r1")
        assert ids(await outbox.undelivered(10, 0.0)) == ["r2"]


class TestTryAgain:
    async def test_counts_the_attempts(self, told, outbox):
        for attempt in range(4):
            assert await outbox.undelivered(10, 60.0) == [(told, attempt)]
            await outbox.try_again("r1", 0.0)

    async def test_waits_so_long(self, told, outbox):
        await outbox.undelivered(10, 0.0)
        await outbox.try_again("r1", 3600.0)
        assert await outbox.undelivered(10, 0.0) == []

    async def test_never_is_the_end_of_it(self, told, outbox):
        await outbox.undelivered(10, 0.0)
        await outbox.try_again("r1", inf)
        assert await outbox.undelivered(10, 0.0) == []

    async def test_after_the_delivery_does_nothing(self, told, outbox):
        await outbox.undelivered(10, 0.0)
        await outbox.delivered("r1")
        await outbox.try_again("r1", 0.0)
        assert await outbox.undelivered(10, 0.0) == []
