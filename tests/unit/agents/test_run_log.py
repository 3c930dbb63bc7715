"""The live log of a run."""

import asyncio
from contextlib import aclosing

from servers.agents.runs.record.log import RunLog
from servers.domain.run_events import Completed, RunEvent, TextDelta
from servers.domain.runs import Run, RunState

RUN = Run("r1", "t", "a", "1", "s", RunState.COMPLETED, "q")


def started(**options):
    return RunLog("r1", now=lambda: 7.0, **options)


async def read(log, after=0):
    return [event async for event in log.follow(after)]


def texts(events):
    return [event.payload.text for event in events if isinstance(event.payload, TextDelta)]


async def test_a_reader_sees_past_events_and_then_those_that_come():
    log = started()
    log.append(TextDelta("a"))
    reading = asyncio.create_task(read(log))
    await asyncio.sleep(0)
    log.append(TextDelta("b"))
    log.append(Completed(RUN))
    assert texts(await reading) == ["a", "b"]


async def test_a_reader_ends_with_the_run():
    log = started()
    log.append(Completed(RUN))
    assert [event.sequence for event in await read(log)] == [1]


async def test_a_reader_goes_on_after_the_position_it_names():
    log = started()
    for text in "abc":
        log.append(TextDelta(text))
    log.append(Completed(RUN))
    assert texts(await read(log, after=2)) == ["c"]


async def test_a_reader_may_name_a_position_that_is_still_to_come():
    log = started()
    reading = asyncio.create_task(read(log, after=2))
    await asyncio.sleep(0)
    for text in "abc":
        log.append(TextDelta(text))
    log.append(Completed(RUN))
    assert texts(await reading) == ["c"]


async def test_positions_may_have_gaps():
    past = [RunEvent("r1", 3, 1.0, TextDelta("old"))]
    log = started(past=past, next_sequence=10_003)
    log.append(TextDelta("new"))
    log.append(Completed(RUN))
    assert texts(await read(log, after=5000)) == ["new"]


async def test_two_readers_do_not_disturb_one_another():
    log = started()
    slow = log.follow()
    log.append(TextDelta("a"))
    async with aclosing(slow):
        await anext(slow)
        log.append(TextDelta("b"))
        log.append(Completed(RUN))
        assert texts(await read(log)) == ["a", "b"]
        assert texts([event async for event in slow]) == ["b"]


async def test_closing_the_log_lets_readers_go_although_the_run_has_not_ended():
    log = started()
    reading = asyncio.create_task(read(log))
    await asyncio.sleep(0)
    log.close()
    assert await reading == []
