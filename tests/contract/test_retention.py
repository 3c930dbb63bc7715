"""What every store of runs forgets, and what it doesn't."""

from dataclasses import replace

import pytest

from servers.agents.background.housekeeping import clean
from servers.domain.run_events import ReasoningDelta
from servers.domain.runs import RunFilter, RunState
from servers.kernel.errors import NotFound
from tests.contract.run_fixture import (
    ENDED,
    REPLIED,
    STARTED,
    WAITING,
    a_run,
    ended,
    event,
    said,
    the_end,
    waiting_run,
)

HOOK = {"webhook": "https://example.test/told"}


@pytest.fixture
def store(stores):
    return stores.runs


@pytest.fixture
def retention(stores):
    return stores.retention


async def left(store) -> list[str]:
    return sorted(run.id for run in (await store.list("acme", RunFilter(), 1000)).runs)


class TestForget:
    @pytest.mark.parametrize("state", ENDED)
    async def test_deletes_what_ended_before(self, store, retention, state):
        await store.create(ended(a_run("r1"), state, at=10.0))
        await store.create(ended(a_run("r2"), state, at=20.0))
        assert await retention.forget(15.0, 10) == 1
        assert await left(store) == ["r2"]

    @pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING, *WAITING])
    async def test_leaves_what_has_not_ended(self, store, retention, state):
        await store.create(a_run(state=state))
        assert await retention.forget(1e12, 10) == 0
        assert await left(store) == ["r1"]

    async def test_deletes_the_log_too(self, store, retention):
        await store.create(ended(a_run()), events=[STARTED, the_end(2, ended(a_run()))])
        await retention.forget(15.0, 10)
        assert await store.events("r1") == []
        assert await store.last_sequence("r1") == 0

    async def test_is_final(self, store, retention):
        await store.create(ended(a_run()))
        await retention.forget(15.0, 10)
        with pytest.raises(NotFound):
            await store.get("acme", "r1")

    async def test_deletes_so_many_at_most_and_the_oldest_first(self, store, retention):
        for number in range(5):
            await store.create(ended(a_run(f"r{number}"), at=float(10 - number)))
        assert await retention.forget(100.0, 3) == 3
        assert await left(store) == ["r0", "r1"]
        assert await retention.forget(100.0, 3) == 2
        assert await retention.forget(100.0, 3) == 0

    async def test_lets_the_request_id_be_used_again(self, store, retention):
        await store.create(ended(a_run(request_id="q")), "hash")
        await retention.forget(15.0, 10)
        assert (await store.create(a_run("r2", request_id="q"), "other"))[1]

    async def test_leaves_what_a_webhook_is_to_be_told(self, stores, store, retention):
        await store.create(ended(a_run(**HOOK)))
        assert await retention.forget(15.0, 10) == 0
        await stores.outbox.delivered("r1")
        assert await retention.forget(15.0, 10) == 1

    async def test_leaves_the_parts_of_a_tree_that_goes_on(self, store, retention):
        await store.create(waiting_run("r1"))
        part = a_run("r2", parent="r1", root="r1", depth=1)
        await store.create(ended(part))
        assert await retention.forget(15.0, 10) == 0
        await store.append("r1", [STARTED], ended(a_run("r1")))
        assert await retention.forget(15.0, 10) == 2


class TestCompact:
    @pytest.fixture
    def log(self):
        return [
            STARTED,
            *said(2, 20),
            event(21, ReasoningDelta("hm", 1)),
            event(22, REPLIED),
            *said(23, 30, model_call=2),
        ]

    @pytest.fixture
    async def run(self, store, log):
        """Ended, with the whole reply of its first model call and none of its second."""
        run = ended(a_run())
        await store.create(a_run(), events=log[:10])
        await store.append("r1", log[10:])
        await store.append("r1", [the_end(31, run)], run)
        return run

    async def test_drops_text_whose_reply_is_on_record(self, run, log, store, retention):
        assert await retention.compact(15.0, 10) == 1
        assert await store.events("r1") == [STARTED, *log[21:], the_end(31, run)]

    @pytest.mark.parametrize("after", range(32))
    async def test_leaves_every_position_good(self, run, store, retention, after):
        await retention.compact(15.0, 10)
        whole = await store.events("r1")
        assert await store.events("r1", after) == [e for e in whole if e.sequence > after]

    async def test_leaves_the_run_and_the_last_position(self, run, store, retention):
        await retention.compact(15.0, 10)
        assert await store.get("acme", "r1") == run
        assert await store.last_sequence("r1") == 31

    async def test_does_it_once(self, run, retention):
        await retention.compact(15.0, 10)
        assert await retention.compact(15.0, 10) == 0

    async def test_leaves_what_ended_later(self, run, log, store, retention):
        assert await retention.compact(5.0, 10) == 0
        assert (await store.events("r1"))[:-1] == log

    async def test_leaves_what_goes_on(self, store, log, retention):
        await store.create(a_run(), events=log)
        assert await retention.compact(1e12, 10) == 0
        assert await store.events("r1") == log

    async def test_goes_past_runs_that_have_nothing_to_drop(self, store, log, retention):
        for number in range(4):
            await store.create(replace(ended(a_run(f"a{number}")), ended_at=1.0))
        await store.create(ended(a_run()), events=log)
        assert await retention.compact(15.0, 2) == 1

    async def test_does_so_many_at_most(self, store, retention):
        for name in ("r1", "r2", "r3"):
            spoken = [*said(1, 3, name), event(4, REPLIED, name)]
            await store.create(ended(a_run(name)), events=spoken)
        assert [await retention.compact(15.0, 2) for _ in range(3)] == [2, 1, 0]


class TestTheMesh:
    """What it does every minute, with its steps of a hundred runs."""

    @pytest.fixture(autouse=True)
    async def runs(self, store):
        for number in range(150):
            run = ended(a_run(f"r{number:03}"), at=float(number))
            await store.create(run, events=[*said(1, 2, run.id), event(3, REPLIED, run.id)])

    async def test_forgets_all_that_is_older_than_the_ttl(self, store, retention):
        await clean(retention, ttl=30.0, compact_after=None, now=150.0)
        assert await left(store) == [f"r{number:03}" for number in range(120, 150)]

    async def test_makes_all_logs_smaller_that_are_old_enough(self, store, retention):
        await clean(retention, ttl=None, compact_after=30.0, now=150.0)
        sizes = [len(await store.events(f"r{number:03}")) for number in range(150)]
        assert sizes == [1] * 120 + [3] * 30

    async def test_does_both(self, store, retention):
        await clean(retention, ttl=60.0, compact_after=30.0, now=150.0)
        assert await left(store) == [f"r{number:03}" for number in range(90, 150)]
        assert len(await store.events("r100")) == 1

    async def test_does_neither_where_nobody_asked_for_it(self, store, retention):
        await clean(retention, ttl=None, compact_after=None, now=1e12)
        assert len(await left(store)) == 150
