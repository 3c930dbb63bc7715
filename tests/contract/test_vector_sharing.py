"""Several processes at one collection of Chroma: each sees what another has acknowledged."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from functools import partial

import pytest

from servers.kernel.vectors.chroma_client import called, client_of, close
from servers.kernel.vectors.chroma_collection import ChromaCollection
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.ports import Scope
from tests.contract.vector_fixture import ACME, EAST, NORTH, SPACE, points, record


@pytest.fixture
def collection(chroma_server, tmp_path) -> Collection:
    return Collection(f"c{uuid.uuid4().hex[:16]}", tmp_path, chroma_server)


@pytest.fixture
async def both(collection):
    async with AsyncExitStack() as stack:
        opened = [
            await stack.enter_async_context(open_collection("chroma", collection)) for _ in "12"
        ]
        await opened[0].prepare(SPACE)
        yield opened


async def seen(store, scope=ACME):
    """By vectors, by words, as a list and as a count: all ways agree."""
    near = {each.record.id for each in await store.search(scope, EAST, 99, {})}
    said = {each.record.id for each in await store.keywords(scope, "fox", 99, {})}
    listed = {each.id for each in await store.records(scope, "", 99)}
    alone = {name for name in listed if await store.record(scope, name)}
    assert near == said == listed == alone
    return near


class TestTwoProcesses:
    async def test_see_what_the_other_stored(self, both):
        one, other = both
        for number, store in enumerate((one, other, one, one, other)):
            await store.replace("acme", record(f"r{number}"), points(EAST, text="fox"))
            expected = {f"r{n}" for n in range(number + 1)}
            assert [await seen(one), await seen(other)] == [expected, expected]
            assert await other.count("acme") == number + 1

    async def test_see_nothing_that_the_other_took_from_them(self, both):
        one, other = both
        bob = Scope("acme", "bob")
        await one.replace("acme", record("a"), points(EAST, text="fox"))
        assert await seen(other, bob) == {"a"}
        await one.replace("acme", record("a", acl=("ada",)), points(EAST, text="fox"))
        assert (await seen(other, bob), await seen(other)) == (set(), {"a"})

    async def test_see_what_was_acknowledged_however_they_looked_meanwhile(self, both):
        """Also where both versions are of the same time, and one may be read beside the other."""
        one, other = both
        await one.replace("acme", record("a"), points(EAST, text="fox"))
        for number in range(8):
            new = record("a", uri=f"u{number}")
            writing = asyncio.create_task(one.replace("acme", new, points(EAST, text="fox")))
            while not writing.done():
                await seen(other)
            assert (await other.record(ACME, "a")).uri == f"u{number}"
            (found,) = await other.keywords(ACME, "fox", 9, {})
            assert found.record.uri == f"u{number}"

    async def test_see_no_more_what_the_other_deleted_or_swept(self, both):
        one, other = both
        for name, ends in {"a": None, "b": 5.0, "c": None}.items():
            await one.replace("acme", record(name, expires_at=ends), points(EAST, text="fox"))
        assert await seen(other) == {"a", "b", "c"}
        assert await one.delete("acme", "a") == 1
        assert await seen(other) == {"b", "c"}
        assert await one.sweep(6.0) == 1
        assert await seen(other) == {"c"}

    async def test_find_what_the_other_replaces_just_then(self, both):
        """Points that one names to Chroma may be gone when it looks for them."""
        one, other = both
        await one.replace("acme", record("a"), points(EAST, text="fox"))
        for number in range(5):
            await seen(other)
            await one.replace("acme", record("a", uri=f"u{number}"), points(NORTH, text="fox"))
            (found,) = await other.search(ACME, NORTH, 9, {})
            assert found.record.uri == f"u{number}"


async def test_writers_that_are_long_gone_leave_few_marks(tmp_path):
    collection = Collection("marked", tmp_path)
    with ThreadPoolExecutor(1) as threads, closing(client_of(collection)) as client:
        call = partial(called, "Chroma", threads)
        for number in range(40):
            one = ChromaCollection(client, "marked", "", call, f"w{number}", lambda: None)
            if not number:
                await one.make(SPACE)
            await one.space()
            await one.leave_mark()
            await one.leave_mark()
        assert len(await one.marks()) < 33
        assert f"w{number}" not in await one.marks()  # its own it knows


async def test_who_reads_while_an_older_version_is_deleted_knows_it_no_longer(
    collection, monkeypatch
):
    """Also where another process's clock is ahead, whose version looks newer."""
    async with open_collection("chroma", collection) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a", updated_at=9.0), points(EAST, text="fox"))
        delete = ChromaCollection.delete

        async def read_first(self, *conditions):
            async with open_collection("chroma", collection) as other:
                await other.replace("acme", record("b", acl=("ada",)), points(EAST))
                await store.records(ACME, "", 9)
            await delete(self, *conditions)

        monkeypatch.setattr(ChromaCollection, "delete", _once(read_first, delete))
        await store.replace("acme", record("a", acl=("ada",)), points(EAST, text="fox"))
        assert await store.record(Scope("acme", "bob"), "a") is None
        assert await seen(store, Scope("acme", "bob")) == set()


def _once(first, then):
    left = [first]

    async def delete(self, *conditions):
        await (left.pop() if left else then)(self, *conditions)

    return delete


class TestPointsThatAHandHasChanged:
    """In their place, without a mark: no version of this program does so."""

    @pytest.fixture
    async def store(self, collection):
        async with open_collection("chroma", collection) as store:
            await store.prepare(SPACE)
            await store.replace("acme", record("a"), points(EAST, EAST, text="fox"))
            await store.replace("acme", record("b"), points(NORTH, text="fox"))
            assert await seen(store) == {"a", "b"}
            yield store

    @pytest.fixture
    def by_hand(self, collection):
        client = client_of(collection)
        yield client.get_collection(collection.name, embedding_function=None)
        close(client)

    @pytest.mark.parametrize("indexes", [{0, 1}, {1}])
    @pytest.mark.parametrize(
        "new", [{"acl:*": None, "acl:@ada": True}, {"tenant": "other"}, {"expires_at": 1.0}]
    )
    async def test_are_not_shown_to_who_may_not_see_them_now(self, store, by_hand, new, indexes):
        there = by_hand.get(where={"record": "a"})
        kept = zip(there["ids"], there["metadatas"], strict=True)
        ids = [name for name, said in kept if said["index"] in indexes]
        by_hand.update(ids=ids, metadatas=[new] * len(ids))
        bob = Scope("acme", "bob", 2.0)
        near = await store.search(bob, EAST, 9, {})
        said = await store.keywords(bob, "fox", 9, {})
        assert [each.record.id for each in (*near, *said)] == ["b", "b"]

    async def test_are_left_out_with_their_record_where_one_is_gone(self, store, by_hand):
        by_hand.delete(where={"$and": [{"record": "a"}, {"index": 1}]})
        near = await store.search(ACME, EAST, 9, {})
        said = await store.keywords(ACME, "fox", 9, {})
        assert [each.record.id for each in (*near, *said)] == ["b", "b"]
