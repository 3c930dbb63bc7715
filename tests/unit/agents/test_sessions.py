"""One writer per session."""

import asyncio

import pytest

from servers.agents.runs.sessions import MAX_WAITING, Sessions
from servers.domain.memory import SessionKey
from servers.kernel.errors import Exhausted, NotReady

KEY = SessionKey("t", "a", "s")


class Worker:
    """Takes its turn in a session and tells the order of things in `told`."""

    def __init__(self, sessions, name, told, policy="queue", key=KEY):
        self.name, self.told, self.may_end = name, told, asyncio.Event()
        self.task = asyncio.create_task(self._work(sessions, policy, key))

    async def _work(self, sessions, policy, key):
        place = sessions.enter(key, lambda: self.task.cancel())
        async with sessions.turn(place, policy):
            self.told.append(f"{self.name} begins")
            try:
                await self.may_end.wait()
            finally:
                self.told.append(f"{self.name} ends")

    async def end(self):
        self.may_end.set()
        await self.task


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_second_run_waits_for_the_first():
    sessions, told = Sessions(), []
    first, second = Worker(sessions, "first", told), Worker(sessions, "second", told)
    await settled()
    assert told == ["first begins"]
    await first.end()
    await second.end()
    assert told == ["first begins", "first ends", "second begins", "second ends"]


async def test_waiting_runs_come_in_the_order_they_came():
    sessions, told = Sessions(), []
    workers = [Worker(sessions, name, told) for name in "abc"]
    await settled()
    for worker in workers:
        await worker.end()
    assert [line for line in told if "begins" in line] == ["a begins", "b begins", "c begins"]


async def test_other_sessions_do_not_wait():
    sessions, told = Sessions(), []
    other = SessionKey("t", "another", "s")
    workers = [Worker(sessions, "a", told), Worker(sessions, "b", told, key=other)]
    await settled()
    assert told == ["a begins", "b begins"]
    for worker in workers:
        await worker.end()


async def test_a_waiting_run_that_is_cancelled_leaves_the_queue():
    sessions, told = Sessions(), []
    first, gone, third = (Worker(sessions, name, told) for name in ("first", "gone", "third"))
    await settled()
    gone.task.cancel()
    await first.end()
    await third.end()
    assert "gone begins" not in told


async def test_replace_cancels_the_run_that_works():
    sessions, told = Sessions(), []
    first = Worker(sessions, "first", told)
    await settled()
    second = Worker(sessions, "second", told, policy="replace")
    with pytest.raises(asyncio.CancelledError):
        await first.task
    await second.end()
    assert told == ["first begins", "first ends", "second begins", "second ends"]


async def test_reject_refuses_while_a_run_works():
    sessions = Sessions()
    first = Worker(sessions, "first", [])
    await settled()
    with pytest.raises(NotReady) as refused:
        sessions.admit(KEY, "reject")
    assert refused.value.reason == "SESSION_BUSY"
    await first.end()


async def test_an_idle_session_admits_everybody():
    Sessions().admit(KEY, "reject")


async def test_the_queue_of_a_session_is_bounded():
    sessions = Sessions()
    workers = [Worker(sessions, "w", []) for _ in range(MAX_WAITING + 1)]
    await settled()
    with pytest.raises(Exhausted, match="waiting already"):
        sessions.admit(KEY, "queue")
    for worker in workers:
        await worker.end()


async def test_a_session_nobody_holds_is_forgotten():
    sessions = Sessions()
    worker = Worker(sessions, "w", [])
    await settled()
    await worker.end()
    assert not sessions.busy(KEY)
