"""Several documents of a stream are worked on at a time, as if it were one."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest

from servers.rag.ahead import ahead


class Work:
    """Ends when it is let go, and remembers what went on."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.cancelled: list[str] = []
        self.go: dict[str, asyncio.Event] = {}

    async def __call__(self, item: str) -> str:
        self.begun.append(item)
        try:
            await self.go.setdefault(item, asyncio.Event()).wait()
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        return item.upper()

    def end(self, *items: str) -> None:
        for item in items:
            self.go.setdefault(item, asyncio.Event()).set()


@pytest.fixture
def work():
    return Work()


async def stream(*items: str, fails: bool = False) -> AsyncIterator[str]:
    for item in items:
        yield item
    if fails:
        raise OSError("the stream broke")


def worked(items: AsyncIterator[str], work: Work, most: int = 2):
    return ahead(items, work, lambda item: item[0], most)


async def settled() -> None:
    """All have gone as far as they can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_as_many_are_worked_on_at_a_time_as_may_be(work):
    told = worked(stream("a", "b", "c"), work)
    first = asyncio.create_task(anext(told))
    await settled()
    assert work.begun == ["a", "b"]
    work.end("a", "b", "c")
    assert [await first, *[each async for each in told]] == ["A", "B", "C"]


async def test_the_order_is_that_of_the_stream(work):
    work.end("b")
    told = worked(stream("a", "b"), work)
    first = asyncio.create_task(anext(told))
    await settled()
    assert not first.done()
    work.end("a")
    assert [await first, *[each async for each in told]] == ["A", "B"]


async def test_the_same_document_is_worked_on_one_after_the_other(work):
    told = worked(stream("a1", "a2"), work)
    first = asyncio.create_task(anext(told))
    await settled()
    assert work.begun == ["a1"]
    work.end("a1", "a2")
    assert [await first, *[each async for each in told]] == ["A1", "A2"]


async def test_what_is_done_is_told_before_the_next_has_come(work):
    answered = asyncio.Event()

    async def waits() -> AsyncIterator[str]:
        yield "a"
        await answered.wait()
        yield "b"

    work.end("a", "b")
    told: Sequence[str] = []
    async for each in worked(waits(), work):
        told = [*told, each]
        answered.set()
    assert told == ["A", "B"]


async def test_a_stream_that_breaks_is_told_of_behind_what_came_before(work):
    work.end("a")
    told = worked(stream("a", fails=True), work)
    assert await anext(told) == "A"
    with pytest.raises(OSError, match="the stream broke"):
        await anext(told)


async def test_who_stops_listening_stops_the_work(work):
    told = worked(stream("a", "b", "c"), work)
    work.end("a")
    assert await anext(told) == "A"
    await settled()
    await told.aclose()
    assert work.cancelled == ["b"]
    assert work.begun == ["a", "b"]
