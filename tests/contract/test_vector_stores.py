"""What every `VectorStore` promises, over each backend alike."""

import asyncio
from random import Random

import pytest

from servers.domain.rag import Where
from servers.kernel.errors import NotReady
from servers.kernel.vectors.ports import Record, Scope, Space
from tests.contract.store_fixture import MISSING, ODD, backend, store
from tests.contract.vector_fixture import ACME, EAST, NORTH, SPACE, UP, points, record, unit

__all__ = ["backend", "store"]


async def names(store, vector=EAST, scope=ACME, limit=10, where: Where | None = None):
    found = await store.search(scope, vector, limit, where or {})
    return [(each.record.id, each.index) for each in found]


@pytest.mark.parametrize("name", MISSING)
def test_is_not_tried_with_what_is_not_here(name):
    pytest.skip(MISSING[name])


class TestSearch:
    async def test_gives_the_most_similar_first(self, store):
        await store.replace("acme", record("a"), points(NORTH, unit(1, 1, 0, 0), EAST))
        assert await names(store) == [("a", 2), ("a", 1), ("a", 0)]

    async def test_gives_similarities_as_cosines(self, store):
        await store.replace("acme", record("a"), points(EAST, unit(1, 1, 0, 0), unit(-1, 0, 0, 0)))
        found = await store.search(ACME, EAST, 10, {})
        assert [each.similarity for each in found] == pytest.approx([1, 0.5**0.5, -1], abs=1e-3)

    async def test_gives_no_more_than_asked_for(self, store):
        await store.replace("acme", record("a"), points(EAST, NORTH, UP))
        assert len(await names(store, limit=2)) == 2

    async def test_gives_all_that_was_stored_with_them(self, store):
        kept = record("a", uri="file:///a", metadata={"n": 1, "x": 0.5, "t": ODD, "yes": True})
        await store.replace("acme", kept, points(EAST, text=ODD + " \u00fc\u65e5\U0001f600"))
        (found,) = await store.search(ACME, EAST, 10, {})
        assert (found.record, found.text, found.start, found.end) == (
            Record(**{**_fields(kept), "points": 1}),
            ODD + " \u00fc\u65e5\U0001f600 0",
            0,
            6,
        )

    async def test_of_an_empty_store_finds_nothing(self, store):
        assert await names(store) == []

    async def test_before_anything_is_prepared_finds_nothing(self, backend):
        async with backend.open() as store:
            assert (await store.space(), await names(store), await store.count("acme")) == (
                None,
                [],
                0,
            )

    async def test_never_sees_another_tenant(self, store):
        await store.replace("other", record("a"), points(EAST))
        assert (await names(store), await store.count("acme")) == ([], 0)

    async def test_of_many_that_are_out_of_scope_still_finds_the_one(self, store):
        """What may not be seen is left out before the best are taken, not after."""
        for n in range(40):
            await store.replace("other", record(f"o{n}"), points(EAST))
            await store.replace("acme", record(f"s{n}", acl=("alice",)), points(EAST))
        await store.replace("acme", record("mine"), points(NORTH))
        scope = Scope("acme", "bob")
        assert await names(store, scope=scope, limit=1) == [("mine", 0)]

    async def test_finds_the_nearest_and_all_of_them_behind_many_equal_ones(self, store):
        await store.replace("acme", record("equal"), points(*[EAST] * 300))
        await store.replace("acme", record("near"), points(unit(1, 0.1, 0, 0), UP))
        await store.replace("other", record("theirs"), points(*[NORTH] * 300))
        assert (await names(store, NORTH, limit=1)) == [("near", 0)]
        assert (await names(store, UP, limit=1)) == [("near", 1)]
        assert len(await names(store, NORTH, limit=1000)) == 302


class TestAccess:
    @pytest.mark.parametrize(
        ("principal", "seen"),
        [("alice", ["hers", "open"]), ("bob", ["open"]), ("", ["open"]), (None, ["hers", "open"])],
    )
    async def test_is_for_those_on_the_list(self, store, principal, seen):
        await store.replace("acme", record("open"), points(EAST))
        await store.replace("acme", record("hers", acl=("carol", "alice")), points(EAST))
        scope = Scope("acme", principal)
        assert sorted(name for name, _ in await names(store, scope=scope)) == seen
        assert [each.id for each in await store.records(scope, "", 10)] == seen
        assert (await store.record(scope, "hers") is not None) == ("hers" in seen)


class TestAFilter:
    @pytest.fixture
    async def filled(self, store):
        metadata = [
            {"lang": "de", "year": 2020, "draft": True},
            {"lang": "en", "year": 2021, "draft": False},
            {"lang": ODD, "year": 1, "share": 0.5},
        ]
        for n, each in enumerate(metadata):
            await store.replace("acme", record(f"d{n}", metadata=each), points(EAST))
        return store

    @pytest.mark.parametrize(
        ("where", "expected"),
        [
            ({"lang": "de"}, ["d0"]),
            ({"lang": ("de", "en")}, ["d0", "d1"]),
            ({"lang": ("de", "en"), "year": 2021}, ["d1"]),
            ({"draft": True}, ["d0"]),
            ({"draft": False}, ["d1"]),
            ({"year": 1}, ["d2"]),
            ({"share": 0.5}, ["d2"]),
            ({"lang": ODD}, ["d2"]),
            ({"lang": "fr"}, []),
            ({"nothing": 1}, []),
            ({ODD: "x"}, []),
        ],
        ids=str,
    )
    async def test_keeps_what_has_the_values(self, filled, where, expected):
        assert sorted(name for name, _ in await names(filled, where=where)) == expected

    async def test_knows_which_fields_there_are(self, filled):
        assert [await filled.knows("acme", key) for key in ("lang", "share", "nothing", ODD)] == [
            True,
            True,
            False,
            False,
        ]
        assert not await filled.knows("other", "lang")

    async def test_keeps_what_a_plain_comparison_keeps(self, store):
        """Whatever keys and values there are: a store has no names of its own for them."""
        chance = Random(5)
        keys = ["lang", "a.b", "$or", "tenant", "acl", "version", "index", "", "mark:x", ODD]
        values = [0, 1, 1.0, -1, 0.5, True, False, "", "1", "true", "*", "%", "_", "{}", ODD]

        def some(most: int) -> dict:
            return {each: chance.choice(values) for each in chance.sample(keys, most)}

        kept = {f"d{n}": some(chance.randrange(7)) for n in range(25)}
        for name, metadata in kept.items():
            await store.replace("acme", record(name, metadata=metadata), points(EAST))
        asked: list[Where] = [some(chance.choice([1, 1, 2])) for _ in range(25)]
        asked += [{key: tuple(chance.sample(values, 3))} for key in keys]
        for where in asked:
            expected = [name for name, metadata in kept.items() if _fits(metadata, where)]
            found = [name for name, _ in await names(store, where=where, limit=100)]
            assert sorted(found) == sorted(expected), where


def _fits(metadata, where: Where) -> bool:
    def same(left, right) -> bool:
        return left == right and isinstance(left, bool) == isinstance(right, bool)

    lists = {key: v if isinstance(v, tuple) else (v,) for key, v in where.items()}
    return all(
        key in metadata and any(same(metadata[key], each) for each in wanted)
        for key, wanted in lists.items()
    )


class TestReplace:
    async def test_takes_the_place_of_all_points(self, store):
        await store.replace("acme", record("a"), points(EAST, NORTH, UP))
        await store.replace("acme", record("a", content_hash="h2"), points(UP))
        assert (await names(store), await store.count("acme")) == ([("a", 0)], 1)
        assert (await store.record(ACME, "a")).content_hash == "h2"

    async def test_leaves_other_records_and_tenants_alone(self, store):
        await store.replace("acme", record("a"), points(EAST))
        await store.replace("acme", record("a/b"), points(EAST))
        await store.replace("other", record("a"), points(EAST))
        await store.replace("acme", record("a"), points(NORTH))
        counts = [await store.count("acme"), await store.count("other")]
        assert (counts, await names(store)) == ([2, 1], [("a/b", 0), ("a", 0)])

    async def test_at_once_leaves_one_of_them_whole(self, store):
        await asyncio.gather(
            *(
                store.replace("acme", record("a", content_hash=f"h{n}"), points(*[EAST] * n))
                for n in range(1, 6)
            )
        )
        left = await store.record(ACME, "a")
        assert left.points == await store.count("acme") == int(left.content_hash[1:])

    async def test_over_what_is_there_as_it_was_read_takes_its_place(self, store):
        await store.replace("acme", record("a"), points(EAST))
        read = await store.record(ACME, "a")
        assert await store.replace("acme", record("a", uri="u2"), points(UP), over=read)
        assert (await store.record(ACME, "a")).uri == "u2"

    async def test_over_what_is_gone_or_another_by_now_stores_nothing(self, store):
        await store.replace("acme", record("a"), points(EAST))
        read = await store.record(ACME, "a")
        await store.replace("acme", record("a", uri="u2"), points(NORTH))
        assert not await store.replace("acme", record("a", uri="u3"), points(UP), over=read)
        assert (await store.record(ACME, "a")).uri == "u2"
        await store.delete("acme", "a")
        assert not await store.replace("acme", record("a", uri="u3"), points(UP), over=read)
        assert (await names(store), await store.count("acme")) == ([], 0)


class TestDelete:
    async def test_forgets_the_record_with_its_points(self, store):
        await store.replace("acme", record("a"), points(EAST, NORTH))
        await store.replace("acme", record("b"), points(NORTH))
        assert await store.delete("acme", "a") == 2
        assert (await names(store), await store.record(ACME, "a")) == ([("b", 0)], None)

    async def test_of_what_is_not_there_deletes_nothing(self, store):
        await store.replace("acme", record("a"), points(EAST))
        deleted = [await store.delete("acme", "b"), await store.delete("other", "a")]
        assert (deleted, await store.count("acme")) == ([0, 0], 1)

    async def test_of_several_leaves_the_others(self, store):
        for each in "abc":
            await store.replace("acme", record(each), points(EAST, NORTH))
        await store.replace("other", record("a"), points(EAST))
        assert await store.delete("acme", "a", "c", "nobody") == 4
        assert await store.delete("acme") == 0
        counts = [await store.count("acme"), await store.count("other")]
        assert (await names(store), counts) == ([("b", 0), ("b", 1)], [2, 1])


class TestTime:
    """Of records that are over at some time, and of those that never are."""

    @pytest.fixture
    async def filled(self, store):
        await store.replace("acme", record("long", expires_at=200.5), points(EAST, text="fox"))
        await store.replace("acme", record("never"), points(unit(3, 1, 0, 0), text="fox"))
        await store.replace("acme", record("short", expires_at=100.5), points(EAST, text="fox"))
        await store.replace("other", record("short", expires_at=100.5), points(EAST, text="fox"))
        return store

    @pytest.mark.parametrize(
        ("now", "left"),
        [
            (None, ["long", "never", "short"]),
            (100.0, ["long", "never", "short"]),
            (100.5, ["long", "never"]),
            (1000.0, ["never"]),
        ],
    )
    async def test_hides_what_is_over(self, filled, now, left):
        scope = Scope("acme", now=now)
        listed = [each.id for each in await filled.records(scope, "", 10)]
        found = await filled.search(scope, EAST, len(left), {})
        said = await filled.keywords(scope, "fox", 10, {})
        kept = [name for name in ("long", "never", "short") if await filled.record(scope, name)]
        assert (listed, kept) == (left, left)
        assert sorted(each.record.id for each in found) == left
        assert sorted(each.record.id for each in said) == left

    async def test_is_given_back_as_it_was_stored(self, filled):
        found = await filled.records(ACME, "", 10)
        assert [each.expires_at for each in found] == [200.5, None, 100.5]

    async def test_sweeps_what_is_over_of_all_tenants(self, filled):
        assert [await filled.sweep(100.0), await filled.sweep(150.0)] == [0, 2]
        assert [await filled.count("acme"), await filled.count("other")] == [2, 0]
        assert [name for name, _ in await names(filled)] == ["long", "never"]

    async def test_sweeps_nothing_before_anything_is_prepared(self, backend):
        async with backend.open() as store:
            assert await store.sweep(1000.0) == 0


class TestRecords:
    async def test_are_listed_by_id_page_by_page(self, store):
        ids = ["B", "a", "a/1", "b", "\u00e4", ODD]
        for each in ids:
            await store.replace("acme", record(each), points(EAST, NORTH))
        first = await store.records(ACME, "", 4)
        rest = await store.records(ACME, first[-1].id, 4)
        assert [each.id for each in (*first, *rest)] == sorted(ids)


class TestASpace:
    async def test_is_remembered(self, backend):
        async with backend.open() as store:
            await store.prepare(SPACE)
        async with backend.open() as store:
            assert await store.space() == SPACE

    @pytest.mark.parametrize("other", [Space("other-model", 4), Space("test-model", 8)], ids=str)
    async def test_refuses_another_one(self, backend, other):
        async with backend.open() as store:
            await store.prepare(SPACE)
            await store.replace("acme", record("a"), points(EAST))
            with pytest.raises(NotReady) as caught:
                await store.prepare(other)
            assert caught.value.reason == "EMBEDDING_MISMATCH"
            assert await names(store) == [("a", 0)]

    async def test_is_the_collections_own(self, backend):
        async with backend.open() as store:
            await store.prepare(SPACE)
        async with backend.open("another") as other:
            await other.prepare(Space("other-model", 8))
            assert await other.space() == Space("other-model", 8)


async def test_what_was_stored_is_there_after_a_restart(backend):
    async with backend.open() as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(EAST, NORTH))
        await store.replace("acme", record("b"), points(UP))
        await store.delete("acme", "b")
    async with backend.open() as store:
        assert await names(store) == [("a", 0), ("a", 1)]
        await store.replace("acme", record("c"), points(EAST))
        assert await store.count("acme") == 3


async def test_vectors_come_along_where_they_are_asked_for(store):
    two = {0: EAST, 1: unit(1, 1, 0, 0)}
    await store.replace("acme", record("a"), points(*two.values(), text="fox"))
    for look, what in ((store.search, EAST), (store.keywords, "fox")):
        found = await look(ACME, what, 10, {}, with_vectors=True)
        assert {each.index: list(each.vector) for each in found} == {
            index: pytest.approx(list(vector)) for index, vector in two.items()
        }
        assert [each.vector for each in await look(ACME, what, 10, {})] == [None, None]


def _fields(kept: Record):
    return {name: getattr(kept, name) for name in Record.__slots__}
