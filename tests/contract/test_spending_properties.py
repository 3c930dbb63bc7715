"""Whatever calls come in whatever order: a hard limit is never passed, and no sum is wrong."""

import asyncio
import tempfile
import uuid
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from servers.kernel.errors import Exhausted
from servers.router.ports import Cost
from tests.contract.spending_fixture import ANYBODY, books, budget, used
from tests.redis_server import redis_server

LIMIT = 100
steps = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.integers(0, 120), st.just(0)),
        # Which of the open calls ends, and how much of its reservation it used, in percent.
        st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 100)),
        st.tuples(st.just("release"), st.integers(0, 9), st.just(0)),
    ),
    max_size=40,
)


class Kept:
    """Does the steps, and knows what the sums must be."""

    def __init__(self, kept) -> None:
        self.kept, self.open, self.spent = kept, [], 0

    @property
    def reserved(self) -> int:
        return sum(most for _, most in self.open)

    async def do(self, deed: str, number: int, percent: int) -> None:
        if deed == "reserve":
            await self._reserve(number)
        elif self.open:
            reservation, most = self.open.pop(number % len(self.open))
            if deed == "release":
                await reservation.release()
                return
            real = most * percent // 100
            self.spent += real
            await reservation.settle(used(real, real / 1e9), "chat")

    async def _reserve(self, most: int) -> None:
        fits = self.spent + self.reserved + most <= LIMIT
        try:
            reservation = await self.kept.reserve(ANYBODY, "p", "m", Cost(most, most / 1e9))
        except Exhausted:
            assert not fits
        else:
            assert fits
            self.open.append((reservation, most))

    async def check(self) -> None:
        for state in await self.kept.budgets("acme"):
            assert (state.spent_tokens, state.reserved_tokens) == (self.spent, self.reserved)
            assert state.spent_usd == self.spent / 1e9
            assert state.spent_tokens + state.reserved_tokens <= LIMIT


async def in_turn(kept, todo) -> None:
    model = Kept(kept)
    for step in todo:
        await model.do(*step)
        await model.check()


async def at_once(kept, todos) -> None:
    """Several callers, each with steps of its own, as they happen to come in between."""
    callers = [Kept(kept) for _ in todos]

    async def work(caller: Kept, todo) -> None:
        for deed, number, percent in todo:
            try:
                if deed == "reserve":
                    reservation = await kept.reserve(ANYBODY, "p", "m", Cost(number, number / 1e9))
                    caller.open.append((reservation, number))
                else:
                    await caller.do(deed, number, percent)
            except Exhausted:
                pass
            for state in await kept.budgets("acme"):
                assert state.spent_tokens + state.reserved_tokens <= LIMIT

    await asyncio.gather(*map(work, callers, todos))
    for state in await kept.budgets("acme"):
        assert state.spent_tokens == sum(caller.spent for caller in callers)
        assert state.reserved_tokens == sum(caller.reserved for caller in callers)


def budgets():
    """One in tokens, one in dollars, of the same size."""
    return budget(limit={"tokens": LIMIT}), budget(limit={"usd": LIMIT / 1e9})


def examined(work, todo, **more) -> None:
    async def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with books(Path(folder), *budgets(), **more) as kept:
                await work(kept, todo)

    asyncio.run(run())


relaxed = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory):
    """Started in a loop of its own: each example has one, too."""
    with asyncio.Runner() as runner:
        server = redis_server(tmp_path_factory.mktemp("redis"))
        started = runner.run(server.__aenter__())
        yield started.url
        runner.run(server.__aexit__(None, None, None))


@relaxed
@given(steps)
def test_sums_are_right_after_every_step_in_process(todo):
    examined(in_turn, todo)


@relaxed
@given(steps)
def test_sums_are_right_after_every_step_in_redis(redis_url, todo):
    examined(in_turn, todo, redis=redis_url, prefix=uuid.uuid4().hex)


@relaxed
@given(st.lists(steps, min_size=2, max_size=5))
def test_sums_are_right_though_several_call_at_once_in_process(todos):
    examined(at_once, todos)


@pytest.mark.slow
@relaxed
@given(st.lists(steps, min_size=2, max_size=5))
def test_sums_are_right_though_several_call_at_once_in_redis(redis_url, todos):
    examined(at_once, todos, redis=redis_url, prefix=uuid.uuid4().hex)
