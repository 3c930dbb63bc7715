"""Blocking functions run in a bounded number of threads."""

import asyncio
import contextvars
import threading

import pytest

from servers.tools.threads import Threads
from tests.patience import PATIENCE


async def test_the_loop_is_not_blocked():
    go = threading.Event()
    running = asyncio.create_task(Threads().run(lambda: go.wait(PATIENCE)))
    await asyncio.sleep(0)  # the loop turns while the function waits for it
    go.set()
    assert await running is True


async def test_what_a_function_raises_arrives():
    def broken() -> None:
        raise KeyError("gone")

    with pytest.raises(KeyError, match="gone"):
        await Threads().run(broken)


async def test_context_goes_along():
    run_id = contextvars.ContextVar("run_id", default="")
    run_id.set("run-1")
    assert await Threads().run(run_id.get) == "run-1"


async def test_a_function_nobody_waits_for_keeps_its_place_until_it_returns():
    threads, go, started = Threads(limit=1), threading.Event(), threading.Event()

    order = []

    def stuck() -> None:
        started.set()
        go.wait(PATIENCE)
        order.append("stuck")

    abandoned = asyncio.create_task(threads.run(stuck))
    await asyncio.to_thread(started.wait, 10)
    abandoned.cancel()
    with pytest.raises(asyncio.CancelledError):
        await abandoned
    waiting = asyncio.create_task(threads.run(lambda: order.append("next")))
    await asyncio.sleep(0)
    go.set()
    await waiting
    assert order == ["stuck", "next"]


async def test_a_function_that_waits_in_line_can_be_cancelled():
    threads, go = Threads(limit=1), threading.Event()
    busy = asyncio.create_task(threads.run(lambda: go.wait(PATIENCE)))
    ran = []
    waiting = asyncio.create_task(threads.run(lambda: ran.append(1)))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    await busy
    assert await threads.run(lambda: "free again") == "free again"
    assert not ran


async def test_threads_are_used_again():
    threads = Threads()
    first = await threads.run(threading.current_thread)
    assert await threads.run(threading.current_thread) is first


async def test_threads_end_with_their_owner():
    threads = Threads()
    worker = await threads.run(threading.current_thread)
    del threads
    await asyncio.to_thread(worker.join, 10)
    assert not worker.is_alive()
