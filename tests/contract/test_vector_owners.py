"""Who opens vector stores, keeps them and closes them."""

import asyncio
from collections import Counter
from contextlib import asynccontextmanager

import pytest

from servers.kernel.errors import NotReady
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.stores import StorePlace, Stores, store_at
from tests.patience import PATIENCE

DOCS = StorePlace("faiss", "docs")


class TestStores:
    async def test_a_caller_that_leaves_leaves_the_opening_to_go_on(self, tmp_path):
        gate, opened = asyncio.Event(), []

        @asynccontextmanager
        async def slowly(place):
            opened.append(place)
            await gate.wait()
            async with store_at(tmp_path)(place) as store:
                yield store

        place = StorePlace("qdrant", "docs")
        async with Stores(slowly) as stores:
            first = asyncio.create_task(stores.at(place))
            await asyncio.sleep(0.01)
            first.cancel()
            await asyncio.wait([first])
            gate.set()
            await stores.at(place)
        assert opened == [place]

    async def test_what_could_not_be_opened_is_tried_again(self, tmp_path):
        place = StorePlace("faiss", "docs")
        async with Stores(store_at(tmp_path)) as stores:
            async with open_collection("faiss", Collection("docs", tmp_path / "faiss")):
                with pytest.raises(NotReady):
                    await stores.at(place)
            assert await (await stores.at(place)).space() is None


class Recorded:
    """Opens stores in a folder, and says how often they were opened and closed."""

    def __init__(self, folder) -> None:
        self._open = store_at(folder)
        self.opened: Counter[str] = Counter()
        self.closed: Counter[str] = Counter()
        self._some_closed = asyncio.Event()

    @asynccontextmanager
    async def __call__(self, place):
        self.opened[place.collection] += 1
        async with self._open(place) as store:
            yield store
        self.closed[place.collection] += 1
        self._some_closed.set()

    async def until_closed(self, name):
        async with asyncio.timeout(PATIENCE):
            while not self.closed[name]:
                self._some_closed.clear()
                await self._some_closed.wait()


class TestStoresThatAreNotKept:
    async def test_are_closed(self, tmp_path):
        one, other, recorded = DOCS, StorePlace("faiss", "other"), Recorded(tmp_path)
        async with Stores(recorded) as stores:
            for place in (one, other):
                async with stores.using(place):
                    pass
            stores.keep(frozenset({other}))
            await recorded.until_closed("docs")
            assert not recorded.closed["other"]

    async def test_stay_open_until_nobody_uses_them(self, tmp_path):
        recorded = Recorded(tmp_path)
        async with Stores(recorded) as stores:
            async with stores.using(DOCS) as store, stores.using(DOCS):
                stores.keep(frozenset())
                assert await store.count("acme") == 0
            await recorded.until_closed("docs")
        assert recorded.opened == {"docs": 1}

    async def test_are_opened_again_when_they_are_wanted_again(self, tmp_path):
        """Once they are closed: a folder can't be opened twice."""
        recorded = Recorded(tmp_path)
        async with Stores(recorded) as stores:
            for _ in range(3):
                async with stores.using(DOCS) as store:
                    stores.keep(frozenset())
                    assert await store.count("acme") == 0
        assert (recorded.opened, recorded.closed) == ({"docs": 3}, {"docs": 3})

    async def test_are_closed_when_who_opened_them_left_early(self, tmp_path):
        recorded = Recorded(tmp_path)
        async with Stores(recorded) as stores:

            async def use():
                async with stores.using(DOCS):
                    await asyncio.Event().wait()

            using = asyncio.create_task(use())
            await asyncio.sleep(0)
            stores.keep(frozenset())
            using.cancel()
            await asyncio.wait([using])
            await recorded.until_closed("docs")

    async def test_that_can_t_be_closed_stop_nobody(self, tmp_path):
        @asynccontextmanager
        async def breaks(place):
            async with store_at(tmp_path)(place) as store:
                yield store
            raise OSError("the disk is full")

        async with Stores(breaks) as stores:
            async with stores.using(DOCS):
                stores.keep(frozenset())
            async with stores.using(DOCS) as store:
                assert await store.count("acme") == 0
