"""What every store of runs promises about who works on a run."""

import asyncio
import time

import pytest

from servers.agents.ports import Beat
from servers.domain.run_events import StateChanged
from servers.domain.runs import RunState
from servers.kernel.errors import Conflict, NotFound, NotReady
from tests.contract.run_fixture import (
    ENDED,
    STARTED,
    WAITING,
    a_run,
    ended,
    event,
    ids,
    said,
    timed_run,
    waiting_run,
)

LATER = time.time() + 10 * 86_400


@pytest.fixture
def store(stores):
    return stores.runs


@pytest.fixture
def leases(stores):
    return stores.leases


class TestClaim:
    async def test_gives_runs_with_their_logs_oldest_first(self, store, leases):
        await store.create(a_run("r2", created_at=2.0))
        await store.create(a_run("r1", created_at=1.0), events=[STARTED, *said(2, 5)])
        await store.append("r1", said(6, 9))
        assert await leases.claim((), 10) == [
            (a_run("r1", created_at=1.0), [STARTED, *said(2, 9)]),
            (a_run("r2", created_at=2.0), []),
        ]

    async def test_gives_them_as_they_are_by_now(self, store, leases):
        await store.create(a_run(state=RunState.QUEUED))
        await store.append("r1", [STARTED], a_run(attempt=2))
        assert await leases.claim((), 10) == [(a_run(attempt=2), [STARTED])]

    async def test_gives_runs_of_all_tenants(self, store, leases):
        await store.create(a_run("r1"))
        await store.create(a_run("r2", tenant="else"))
        assert ids(await leases.claim((), 10)) == ["r1", "r2"]

    async def test_gives_so_many_at_most(self, store, leases):
        for number in range(5):
            await store.create(a_run(f"r{number}", created_at=float(number)))
        assert ids(await leases.claim((), 3)) == ["r0", "r1", "r2"]

    async def test_leaves_out_what_the_process_works_on(self, store, leases):
        for name in ("r1", "r2", "r3"):
            await store.create(a_run(name))
        assert ids(await leases.claim({"r1", "r3"}, 10)) == ["r2"]

    @pytest.mark.parametrize("state", RunState)
    async def test_gives_runs_that_neither_ended_nor_wait(self, store, leases, state):
        await store.create(a_run(state=state))
        expected = state in (RunState.QUEUED, RunState.RUNNING)
        # One that waits for a time, but for none in particular, would wait for ever.
        assert bool(await leases.claim((), 10)) is (expected or state is RunState.WAITING_TIMER)

    async def test_gives_no_run_that_has_ended(self, store, leases):
        await store.create(a_run())
        await store.append("r1", [STARTED], ended(a_run()))
        assert await leases.claim((), 10) == []

    async def test_gives_no_run_that_waits(self, store, leases):
        await store.create(a_run())
        await store.append("r1", [STARTED], waiting_run())
        assert await leases.claim((), 10) == []

    async def test_gives_a_run_whose_timer_is_due(self, store, leases):
        await store.create(a_run())
        await store.append("r1", [STARTED], timed_run(5.0))
        assert await leases.claim((), 10) == [(timed_run(5.0), [STARTED])]

    async def test_gives_no_run_whose_timer_is_not_due(self, store, leases):
        await store.create(timed_run(LATER))
        assert await leases.claim((), 10) == []

    async def test_gives_a_run_that_waits_for_a_person_up_to_a_time(self, store, leases):
        run = waiting_run(waiting=timed_run(5.0).waiting)
        await store.create(run)
        assert await leases.claim((), 10) == [(run, [])]

    async def test_gives_a_run_when_its_time_comes(self, store, leases):
        due = time.time() + 0.3
        await store.create(timed_run(due))
        early = await leases.claim((), 10)
        assert early == [] or time.time() >= due
        await asyncio.sleep(due + 0.1 - time.time())
        assert ids(early or await leases.claim((), 10)) == ["r1"]

    async def test_gives_what_goes_on_again(self, store, leases):
        await store.create(timed_run(LATER))
        await leases.take("acme", "r1")
        await store.append("r1", [STARTED], a_run())
        assert ids(await leases.claim((), 10)) == ["r1"]

    async def test_gives_what_a_process_before_has_left(self, opening):
        async with opening() as stores:
            await stores.runs.create(a_run(), events=[STARTED])
            await stores.leases.release(["r1"])
        async with opening() as stores:
            assert await stores.leases.claim((), 10) == [(a_run(), [STARTED])]

    async def test_lets_the_owner_go_on_with_the_log(self, store, leases):
        await store.create(a_run())
        await leases.claim((), 10)
        await store.append("r1", [STARTED], ended(a_run()))
        assert await store.last_sequence("r1") == 1


class TestTake:
    @pytest.mark.parametrize("state", WAITING)
    async def test_gives_a_waiting_run_with_its_log(self, store, leases, state):
        await store.create(a_run(), events=[STARTED])
        await store.append("r1", [event(2, StateChanged(state))], waiting_run(state=state))
        assert await leases.take("acme", "r1") == (
            waiting_run(state=state),
            [STARTED, event(2, StateChanged(state))],
        )

    async def test_lets_the_owner_go_on_with_the_log(self, store, leases):
        await store.create(waiting_run())
        await leases.take("acme", "r1")
        await store.append("r1", [STARTED], a_run())
        assert await store.get("acme", "r1") == a_run()

    async def test_gives_a_run_to_one_of_several(self, store, leases):
        await store.create(waiting_run())
        taken = [leases.take("acme", "r1") for _ in range(8)]
        outcomes = await asyncio.gather(*taken, return_exceptions=True)
        refused = [each for each in outcomes if isinstance(each, NotReady)]
        assert len(refused) == 7

    async def test_gives_a_run_again_when_it_waits_again(self, store, leases):
        await store.create(waiting_run())
        for sequence in (1, 2):
            await leases.take("acme", "r1")
            await store.append("r1", [event(sequence, StateChanged(RunState.RUNNING))], a_run())
            await store.append("r1", [], waiting_run())
        assert ids([await leases.take("acme", "r1")]) == ["r1"]

    async def test_gives_a_run_again_that_was_let_go(self, store, leases):
        await store.create(waiting_run())
        await leases.take("acme", "r1")
        await leases.release(["r1"])
        assert ids([await leases.take("acme", "r1")]) == ["r1"]

    async def test_gives_what_a_process_before_had_taken(self, opening):
        async with opening() as stores:
            await stores.runs.create(waiting_run())
            await stores.leases.take("acme", "r1")
            await stores.leases.release(["r1"])
        async with opening() as stores:
            assert ids([await stores.leases.take("acme", "r1")]) == ["r1"]

    @pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING, *ENDED])
    async def test_refuses_a_run_that_does_not_wait(self, store, leases, state):
        await store.create(a_run(state=state))
        with pytest.raises(NotReady, match="'r1'") as caught:
            await leases.take("acme", "r1")
        assert caught.value.reason == "RUN_NOT_WAITING"
        assert caught.value.facts["state"] == state.value

    async def test_refuses_a_run_that_was_claimed_by_its_timer(self, store, leases):
        await store.create(timed_run(5.0))
        await leases.claim((), 10)
        with pytest.raises(NotReady):
            await leases.take("acme", "r1")

    async def test_does_not_find_an_unknown_run(self, leases):
        with pytest.raises(NotFound, match="'r9'"):
            await leases.take("acme", "r9")

    async def test_does_not_find_the_run_of_another_tenant(self, store, leases):
        await store.create(waiting_run())
        with pytest.raises(NotFound, match="'r1'"):
            await leases.take("else", "r1")


class TestRenew:
    async def test_tells_nothing_where_nothing_happened(self, store, leases):
        await store.create(a_run())
        assert await leases.renew(["r1"]) == Beat()

    async def test_does_not_miss_a_run_that_is_not_on_record_yet(self, leases):
        assert await leases.renew(["r9"]) == Beat()

    async def test_of_nothing_is_nothing(self, leases):
        assert await leases.renew([]) == Beat()

    async def test_tells_that_a_run_is_to_be_cancelled(self, store, leases):
        await store.create(a_run("r1"))
        await store.create(a_run("r2"))
        await leases.ask_cancel("acme", "r1", "no longer wanted")
        assert await leases.renew(["r1", "r2"]) == Beat(cancelled={"r1": "no longer wanted"})

    async def test_tells_it_without_a_reason_too(self, store, leases):
        await store.create(a_run())
        await leases.ask_cancel("acme", "r1", "")
        assert await leases.renew(["r1"]) == Beat(cancelled={"r1": ""})

    async def test_tells_only_of_runs_it_was_asked_for(self, store, leases):
        await store.create(a_run("r1"))
        await store.create(a_run("r2"))
        await leases.ask_cancel("acme", "r1", "no longer wanted")
        assert await leases.renew(["r2"]) == Beat()


class TestAskCancel:
    async def test_does_not_find_an_unknown_run(self, leases):
        with pytest.raises(NotFound, match="'r9'"):
            await leases.ask_cancel("acme", "r9", "")

    async def test_does_not_find_the_run_of_another_tenant(self, store, leases):
        await store.create(a_run())
        with pytest.raises(NotFound, match="'r1'"):
            await leases.ask_cancel("else", "r1", "")
        assert await leases.renew(["r1"]) == Beat()

    async def test_survives_the_process(self, opening):
        async with opening() as stores:
            await stores.runs.create(a_run())
            await stores.leases.ask_cancel("acme", "r1", "no longer wanted")
            await stores.leases.release(["r1"])
        async with opening() as stores:
            await stores.leases.claim((), 10)
            assert await stores.leases.renew(["r1"]) == Beat(cancelled={"r1": "no longer wanted"})


class TestTheLog:
    async def test_fences_off_whoever_had_a_run_before(self, store, leases):
        await store.create(waiting_run(), events=[STARTED])
        await leases.take("acme", "r1")
        await store.append("r1", [event(2, StateChanged(RunState.RUNNING))], a_run())
        with pytest.raises(Conflict) as caught:
            await store.append("r1", [event(2, StateChanged(RunState.RUNNING))], a_run())
        assert caught.value.reason == "FENCED"
