"""What is known of records in memory: which are newest, in scope, and still as they were read."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.kernel.vectors.heads import Heads
from servers.kernel.vectors.known import Known
from servers.kernel.vectors.payloads import Head
from servers.kernel.vectors.ports import Record, Scope

ACME = Scope("acme")


def head(name="a", version="v1", at=1.0, **more) -> Head:
    return Record(name, points=1, updated_at=at, **more), version


def ids(heads: Sequence[Head]) -> list[str]:
    return [f"{record.id} {version}" for record, version in heads]


class TestHeads:
    def test_show_the_newest_version_alone(self):
        heads = Heads([head(version="old", at=1.0), head(version="new", at=2.0)])
        assert ids(heads.seen(ACME)) == ["a new"]

    def test_show_no_older_version_to_who_may_not_see_the_newest(self):
        heads = Heads([head(version="old"), head(version="new", at=2.0, acl=("ada",))])
        assert ids(heads.seen(Scope("acme", "bob"))) == []

    def test_show_what_is_not_over(self):
        heads = Heads([head(expires_at=5.0), head("b")])
        assert ids(heads.seen(Scope("acme", now=4.0))) == ["a v1", "b v1"]
        assert ids(heads.seen(Scope("acme", now=5.0))) == ["b v1"]

    @pytest.mark.parametrize(
        ("where", "fits"),
        [({"n": 1.0}, True), ({"n": True}, False), ({"n": (0, 1)}, True), ({"m": 1}, False)],
    )
    def test_compare_values_with_their_types(self, where, fits):
        assert len(Heads([head(metadata={"n": 1})]).seen(ACME, where)) == fits

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 9), st.booleans())))
    def test_know_after_each_change_what_they_would_know_anew(self, changes):
        heads, kept = Heads(), dict[tuple[str, str], Head]()
        scope, where = Scope("acme", "bob"), {"n": 1}
        for number, (name, at, gone) in enumerate(changes):
            assert ids(sorted(heads.seen(scope, where), key=str)) == _fitting(kept, scope, where)
            version = f"v{number}"
            if gone:
                heads.keep(name, {version})
                kept = {key: each for key, each in kept.items() if key[0] != name}
                continue
            acl = ("bob",) if at % 2 else ("ada",)
            new = head(name, version, float(at), acl=acl, metadata={"n": at % 3})
            heads.put(new)
            kept[name, version] = new
        assert ids(sorted(heads.seen(scope, where), key=str)) == _fitting(kept, scope, where)


def _fitting(kept, scope, where) -> list[str]:
    return ids(sorted(Heads(kept.values()).seen(scope, where), key=str))


class Database:
    """Of others: what is in it, and the marks that they leave. `meanwhile` happens while it is
    read."""

    def __init__(self, *heads: Head) -> None:
        self.there, self.left, self.now, self.read = list(heads), 0, 0.0, 0
        self.meanwhile = [lambda: None]
        self.known = Known(self._heads, self, lambda: self.now)

    async def _heads(self, tenant: str) -> list[Head]:
        self.read += 1
        found = [each for each in self.there if tenant == "acme"]
        await asyncio.sleep(0)
        if self.meanwhile:
            self.meanwhile.pop()()
        return found

    async def marks(self):
        await asyncio.sleep(0)
        return {"other": self.left}

    def writes(self, new: Head, mark: bool = True) -> None:
        self.there.append(new)
        self.left += mark

    async def seen(self) -> list[str]:
        return ids((await self.known.tenant("acme")).heads.seen(ACME))


class TestKnown:
    async def test_is_read_once(self):
        database = Database(head())
        assert [await database.seen(), await database.seen()] == [["a v1"]] * 2
        assert database.read == 1

    async def test_is_read_once_by_many_who_ask_at_the_same_time(self):
        database = Database(head())
        assert await asyncio.gather(*(database.seen() for _ in range(9))) == [["a v1"]] * 9
        assert database.read == 1

    async def test_is_read_again_after_a_mark_of_another_writer(self):
        database = Database(head())
        await database.seen()
        database.writes(head("b"))
        assert await database.seen() == ["a v1", "b v1"]

    async def test_has_what_another_wrote_while_it_was_read(self):
        database = Database(head())
        database.meanwhile = [lambda: database.writes(head("b"))]
        await database.seen()
        assert await database.seen() == ["a v1", "b v1"]

    async def test_is_read_though_others_write_all_the_time(self):
        database = Database(head())
        database.meanwhile = [lambda: database.writes(head("b"))] * 20
        assert await database.seen() == ["a v1"]
        assert await database.seen() == ["a v1", "b v1"]
        assert database.read == 2

    async def test_is_read_for_all_who_ask_though_others_write_all_the_time(self):
        database = Database(head())
        database.meanwhile = [lambda: database.writes(head("b"))] * 20
        await asyncio.gather(*(database.seen() for _ in range(9)))
        assert database.read <= 2

    async def test_takes_over_our_own_changes_unread(self):
        database = Database(head())
        await database.seen()
        database.known.change("acme", lambda heads: heads.put(head("b")))
        assert (await database.seen(), database.read) == (["a v1", "b v1"], 1)

    async def test_has_our_own_change_that_was_made_while_it_was_read(self):
        database = Database(head())

        def ours() -> None:
            database.known.change("acme", lambda heads: heads.keep("a"))
            database.known.change("other", lambda heads: heads.put(head("theirs")))

        database.meanwhile = [ours]
        assert await database.seen() == []

    async def test_does_not_keep_what_was_forgotten_while_it_was_read(self):
        database = Database(head())
        database.meanwhile = [lambda: None, database.known.forget]
        await database.seen()
        assert database.read == 2

    async def test_hears_within_a_minute_of_who_leaves_no_marks(self):
        database = Database(head())
        await database.seen()
        database.writes(head("b"), mark=False)
        database.now = 60.5
        assert await database.seen() == ["a v1", "b v1"]
