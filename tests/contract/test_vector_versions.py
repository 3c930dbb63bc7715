"""Records that are replaced while somebody looks, in databases without transactions."""

import asyncio

import pytest

from servers.kernel.vectors import versions
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.payloads import Head, of_point, of_record
from servers.kernel.vectors.ports import Record
from tests.contract.vector_fixture import ACME, NORTH, SPACE, points, record

LOOKS = {
    "search": lambda store: store.search(ACME, NORTH, 9, {}, True),
    "keywords": lambda store: store.keywords(ACME, "text", 9, {}),
    "records": lambda store: store.records(ACME, "", 9),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("backend", ["qdrant", "chroma"])
async def test_a_record_that_is_replaced_without_a_pause_is_found_once(backend, look, tmp_path):
    async with open_collection(backend, Collection("busy", tmp_path)) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("b"), points(NORTH))
        written, looked = 0, asyncio.Event()

        async def write() -> None:
            nonlocal written
            new = record("a", updated_at=written + 1.0)
            await store.replace("acme", new, points(NORTH))
            written += 1

        async def write_on() -> None:
            while not looked.is_set():
                await write()

        await write()
        writing = asyncio.create_task(write_on())
        for _ in range(6):
            before = written
            found = [getattr(each, "record", each) for each in await LOOKS[look](store)]
            assert sorted(each.id for each in found) == ["a", "b"]
            assert max(each.updated_at for each in found) >= before
        looked.set()
        await writing


class Replaced:
    """A record that is replaced so many times between a look at it and one at its versions."""

    def __init__(self, times: int) -> None:
        self.left, self.version = times, 1

    def _head(self) -> Head:
        return Record("a", points=1, updated_at=float(self.version)), f"v{self.version}"

    async def points(self):
        said, version = self._head()
        (point,) = points(NORTH)
        payload = of_record("acme", said, 1) | {"version": version} | of_point(point)
        return [(payload, 0.5)], True

    async def seen(self, _) -> list[Head]:
        return [self._head()]

    async def heads_of(self, records) -> list[Head]:
        if self.left and records:
            self.left -= 1
            self.version += 1
        return [self._head()] if records else []


class TestVersionsOnAServer:
    @pytest.mark.parametrize("times", [0, 1, 2, 4])
    async def test_one_that_is_replaced_meanwhile_is_found_once(self, times):
        there = Replaced(times)
        (found,) = await versions.whole(there.points, there.heads_of)
        assert found.record.updated_at >= min(times + 1, 2)  # the newest one once

    @pytest.mark.parametrize("times", [0, 1, 2, 4])
    async def test_one_that_is_replaced_meanwhile_is_listed_once(self, times):
        there = Replaced(times)
        (found,) = await versions.current(await there.seen([]), there.seen, there.heads_of)
        assert found.updated_at >= min(times + 1, 2)

    async def test_one_that_is_deleted_meanwhile_is_not_found(self):
        async def nothing(_):
            return []

        assert await versions.whole(Replaced(0).points, nothing) == []
        assert await versions.current(await Replaced(0).seen([]), nothing, nothing) == []


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("backend", ["qdrant", "chroma"])
async def test_one_that_is_deleted_meanwhile_is_found_whole_or_not(backend, look, tmp_path):
    async with open_collection(backend, Collection("busy", tmp_path)) as store:
        await store.prepare(SPACE)
        for _ in range(5):
            await store.replace("acme", record("a"), points(NORTH, NORTH))
            deleting = asyncio.create_task(store.delete("acme", "a"))
            assert len(await LOOKS[look](store)) in ({0, 1} if look == "records" else {0, 2})
            await deleting
            assert list(await LOOKS[look](store)) == []
