"""Places at a provider: how many at once, how many in a minute, and who waits."""

import asyncio

import pytest

from servers.router.lanes.limits import Gate
from servers.router.ports import Limits, ProviderDown
from tests.contract.router_fixture import Clock


def gate(clock=None, **limits) -> Gate:
    return Gate("company", Limits(**limits), clock or Clock())


class TestAGateWithoutLimits:
    def test_lets_everybody_in(self):
        assert all(gate().enter() for _ in range(1000))

    def test_counts_who_is_inside(self):
        open_gate = gate()
        first, _ = open_gate.enter(), open_gate.enter()
        first.leave()
        assert open_gate.active == 1


class TestConcurrency:
    def test_is_a_number_of_places(self):
        narrow = gate(concurrency=2)
        assert [bool(narrow.enter()) for _ in range(3)] == [True, True, False]

    def test_a_place_that_is_left_is_free_again(self):
        narrow = gate(concurrency=1)
        narrow.enter().leave()
        assert narrow.enter()

    async def test_who_waits_gets_the_next_place(self):
        narrow = gate(concurrency=1)
        held = narrow.enter()
        waiting = asyncio.create_task(narrow.wait())
        await asyncio.sleep(0)
        assert narrow.waiting == 1
        held.leave()
        assert await waiting

    async def test_places_go_to_those_who_wait_in_their_order(self):
        narrow, order = gate(concurrency=1), []

        async def one(name: str) -> None:
            place = await narrow.wait()
            order.append(name)
            await asyncio.sleep(0)
            place.leave()

        held = narrow.enter()
        async with asyncio.TaskGroup() as group:
            for name in "abcd":
                group.create_task(one(name))
            await asyncio.sleep(0)
            held.leave()
        assert order == list("abcd")

    async def test_nobody_passes_those_who_wait(self):
        narrow = gate(concurrency=1)
        held = narrow.enter()
        waiting = asyncio.create_task(narrow.wait())
        await asyncio.sleep(0)
        held.leave()
        assert narrow.enter() is None
        await waiting

    async def test_who_waits_too_long_hears_that_it_is_busy(self):
        narrow = gate(concurrency=1, max_wait=0.01)
        narrow.enter()
        with pytest.raises(ProviderDown, match=r"company is at its limits: no place") as caught:
            await narrow.wait()
        assert (caught.value.reason, narrow.waiting) == ("PROVIDER_BUSY", 0)

    async def test_more_than_may_wait_are_refused_at_once(self):
        narrow = gate(concurrency=1, max_waiting=1)
        narrow.enter()
        waiting = asyncio.create_task(narrow.wait())
        await asyncio.sleep(0)
        with pytest.raises(ProviderDown, match="1 calls wait for it already"):
            await narrow.wait()
        waiting.cancel()

    async def test_who_gives_up_waiting_is_no_longer_in_the_way(self):
        narrow = gate(concurrency=1)
        held = narrow.enter()
        gone, patient = (asyncio.create_task(narrow.wait()) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        held.leave()
        assert await patient


class TestRequestsAMinute:
    def test_may_all_come_at_once(self):
        slow = gate(requests_per_minute=3)
        assert [bool(slow.enter()) for _ in range(4)] == [True, True, True, False]

    def test_grow_back_evenly(self):
        clock = Clock()
        slow = gate(clock, requests_per_minute=3)
        for _ in range(3):
            slow.enter()
        clock.now = 19.9
        assert slow.enter() is None
        clock.now = 20.0
        assert slow.enter()

    async def test_are_waited_for(self):
        slow = Gate("company", Limits(requests_per_minute=6000))  # one in 10 ms, in real time
        while slow.enter():
            pass
        assert await slow.wait()


class TestTokensAMinute:
    def test_are_taken_when_a_call_begins(self):
        slow = gate(tokens_per_minute=100)
        assert [bool(slow.enter(60)) for _ in range(2)] == [True, False]

    def test_that_were_not_used_are_given_back(self):
        slow = gate(tokens_per_minute=100)
        slow.enter(90).leave(used=10)
        assert slow.enter(90)

    def test_that_were_used_beyond_what_was_taken_make_later_calls_wait(self):
        slow = gate(tokens_per_minute=100)
        slow.enter(10).leave(used=100)
        assert slow.enter(1) is None

    def test_a_call_larger_than_a_minute_s_worth_is_let_in_alone(self):
        assert gate(tokens_per_minute=100).enter(500)
