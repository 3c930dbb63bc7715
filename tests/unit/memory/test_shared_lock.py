"""Many hold it at once, or one alone."""

import asyncio
from contextlib import AsyncExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.memory.shared_lock import SharedLock


async def entered(context) -> bool:
    """Whether it can be entered now."""
    try:
        async with asyncio.timeout(0.01), context:
            return True
    except TimeoutError:
        return False


async def test_many_share_it():
    lock = SharedLock()
    async with lock.shared():
        assert await entered(lock.shared())


async def test_nobody_is_beside_one_who_is_alone():
    lock = SharedLock()
    async with lock.alone():
        assert not await entered(lock.shared())
        assert not await entered(lock.alone())
    assert await entered(lock.alone())


async def test_who_wants_to_be_alone_waits_for_those_inside_and_goes_before_who_comes_later():
    lock, order = SharedLock(), []

    async def alone() -> None:
        async with lock.alone():
            order.append("alone")

    async def later() -> None:
        async with lock.shared():
            order.append("later")

    async with lock.shared():
        waiting = [asyncio.create_task(each()) for each in (alone, later)]
        await asyncio.sleep(0)
        order.append("inside")
    await asyncio.gather(*waiting)
    assert order == ["inside", "alone", "later"]


async def test_who_gives_up_waiting_holds_nobody_up():
    lock = SharedLock()
    async with lock.shared():
        assert not await entered(lock.alone())
        assert await entered(lock.shared())
    assert await entered(lock.alone())


async def test_who_fails_inside_has_left():
    lock = SharedLock()
    for way in (lock.shared, lock.alone):
        with pytest.raises(ValueError, match="one"):
            async with way():
                int("one")
    assert await entered(lock.alone())


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=12))
def test_whatever_the_order_nobody_is_inside_with_one_who_is_alone(steps):
    async def run() -> None:
        lock, inside = SharedLock(), []

        async def one(alone: bool, turns: int) -> None:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(lock.alone() if alone else lock.shared())
                inside.append(alone)
                assert not any(inside) or len(inside) == 1
                for _ in range(turns):
                    await asyncio.sleep(0)
                inside.remove(alone)

        await asyncio.gather(*(one(*step) for step in steps))
        assert inside == []

    asyncio.run(run())
