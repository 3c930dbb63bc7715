"""Several sources at once: one is needed, the others can be done without."""

import asyncio

import pytest

from servers.domain.semantic import SourceFailure
from servers.kernel.errors import Unavailable
from servers.memory.gathering import gathered
from tests.patience import PATIENCE


async def talk():
    return "talk"


async def facts():
    return ["fact"]


async def away():
    raise Unavailable("nobody answers", reason="STORE_UNAVAILABLE")


async def broken():
    raise KeyError("x")


async def endless():
    await asyncio.Event().wait()


async def test_what_all_gave_is_given_by_name():
    assert await gathered(talk(), {"a": facts, "b": facts}) == (
        "talk",
        {"a": ["fact"], "b": ["fact"]},
        (),
    )


async def test_they_work_at_the_same_time():
    met = asyncio.Barrier(3)

    async def waits():
        async with asyncio.timeout(PATIENCE):
            await met.wait()
        return "met"

    answer = await gathered(waits(), {"a": waits, "b": waits}, 5)
    assert answer == ("met", {"a": "met", "b": "met"}, ())


async def test_one_that_fails_costs_the_others_nothing():
    answer, found, failures = await gathered(talk(), {"a": away, "b": facts, "c": broken})
    assert (answer, found) == ("talk", {"b": ["fact"]})
    assert failures[0] == SourceFailure("a", "STORE_UNAVAILABLE", "nobody answers")
    assert (failures[1].source, failures[1].reason) == ("c", "INTERNAL")
    assert "x" not in failures[1].message


async def test_one_that_is_late_is_given_up():
    answer, found, failures = await gathered(talk(), {"a": endless, "b": facts}, 0.01)
    assert (answer, found) == ("talk", {"b": ["fact"]})
    assert failures == (SourceFailure("a", "TIMEOUT", "no answer in 0.01 seconds"),)


async def test_the_failure_of_the_needed_one_is_the_callers_and_leaves_nothing_at_work():
    ended = []

    async def watched():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def late():
        await asyncio.sleep(0.01)
        await away()

    with pytest.raises(Unavailable):
        await gathered(late(), {"a": watched})
    assert ended == [True]
