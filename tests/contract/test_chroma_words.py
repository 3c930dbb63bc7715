"""The words of a collection in Chroma, which are held in memory, where callers go away."""

import asyncio
import threading

import pytest

from servers.kernel.vectors import chroma_search
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from tests.contract.vector_fixture import ACME, EAST, SPACE, points, record


class Gate:
    """Holds the first one who comes back until it is opened."""

    def __init__(self, weights) -> None:
        self._weights, self._first = weights, True
        self.reached, self.opened = threading.Event(), threading.Event()

    def weights(self, document):
        first, self._first = self._first, False
        if first:
            self.reached.set()
            self.opened.wait(30)
        return self._weights(document)


@pytest.fixture
def gate(monkeypatch):
    gate = Gate(chroma_search.weights)
    monkeypatch.setattr(chroma_search, "weights", gate.weights)
    yield gate
    gate.opened.set()


async def test_words_are_read_by_one_at_a_time_though_the_first_who_asked_left(gate, tmp_path):
    async with open_collection("chroma", Collection("words", tmp_path)) as store:
        await store.prepare(SPACE)
        for name in ("fox", "hen"):
            await store.replace("acme", record(name), points(EAST, text=name))
        first = asyncio.create_task(store.keywords(ACME, "fox", 9, {}))
        await asyncio.to_thread(gate.reached.wait)
        first.cancel()
        second = asyncio.create_task(store.keywords(ACME, "fox", 9, {}))
        await asyncio.wait([second], timeout=0.2)
        assert not second.done()  # the table is not its own yet
        gate.opened.set()
        assert [each.record.id for each in await second] == ["fox"]
        assert (await asyncio.gather(first, return_exceptions=True))[0].__class__ is (
            asyncio.CancelledError
        )
