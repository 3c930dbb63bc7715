"""What is forgotten stays so: whatever is on its way meanwhile, and in the files, too."""

import asyncio
import sqlite3
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from uuid import uuid4

import pytest
import pytest_asyncio

from servers.domain.semantic import Erasure, Forgetting, MemoryQuery, Origin, RememberOutcome
from servers.kernel.errors import InvalidInput, NotFound, NotReady
from servers.kernel.vectors.stores import StorePlace, store_at
from servers.memory.collections import CollectionPlace
from tests.contract.memory_fixture import in_process, over_the_wire
from tests.contract.rag_fixture import packaged_router
from tests.contract.semantic_fixture import (
    ADA,
    AGENT,
    BOAT,
    BOB,
    SESSION,
    TEA,
    asks,
    note,
    texts,
    where,
)
from tests.unit.agents.troubled import Troubled

pytestmark = pytest.mark.asyncio(loop_scope="module")

BACKENDS = ("faiss", "pgvector", "qdrant", "chroma")
CREATED, MERGED = RememberOutcome.CREATED, RememberOutcome.MERGED
DAY = 86_400.0
ALL = MemoryQuery()


# The model is loaded once: that takes a second.
@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory):
    async with packaged_router(tmp_path_factory.mktemp("models")) as router:
        yield router


@pytest.fixture(params=BACKENDS)
def place(request, tmp_path):
    return where(request.param, request, tmp_path)


@pytest_asyncio.fixture(loop_scope="module")
async def memory(place, router):
    async with place.memory(router) as memory:
        yield memory


@pytest.fixture
def folder(request, tmp_path):
    """Of what no backend decides."""
    return where("faiss", request, tmp_path)


@pytest_asyncio.fixture(loop_scope="module", params=[in_process, over_the_wire])
async def plain(request, folder, router):
    async with folder.memory(router, request.param) as memory:
        yield memory


def behind_trouble(place):
    """The same place, and its store, which waits where the test says so."""
    stores, real = [], store_at(place.folder)

    @asynccontextmanager
    async def opening(at):
        async with real(at) as store:
            stores.append(Troubled(store))
            yield stores[-1]

    return replace(place, opening=opening), stores


async def refused(call) -> str:
    with pytest.raises(NotReady) as caught:
        await call
    return caught.value.reason


async def begun(memory, stores) -> asyncio.Task:
    """An erasure that is through with the collection "default", and deletes nothing of "main"."""
    erasing = asyncio.create_task(memory.erase("acme", "ada"))
    while len(stores) < 2:  # noqa: ASYNC110  # who erases opens it
        await asyncio.sleep(0)
    await stores[1].reached["delete"].wait()
    for _ in range(10):  # it would have been there by then
        await memory.semantic.memories(BOB, ALL)
        await memory.semantic.forget(BOB, Forgetting(all=True), "default")
    assert not stores[0].reached["delete"].is_set()
    return erasing


class TestWhatMeetsAnErasure:
    async def test_a_merge_does_not_bring_back_what_is_erased(self, place, router):
        place, stores = behind_trouble(place)
        async with place.memory(router) as memory:
            await memory.semantic.remember(ADA, note(TEA, scope=AGENT))
            go_on = stores[0].hold("replace")
            merging = asyncio.create_task(memory.semantic.remember(BOB, note(TEA, scope=AGENT)))
            await stores[0].reached["replace"].wait()
            place.clock.now += 1
            erasing = await begun(memory, stores)
            go_on.set()
            assert (await merging)[1] is MERGED
            assert (await erasing).memories == 1
            assert (await memory.semantic.memories(BOB, ALL)).memories == ()

    async def test_one_whose_caller_left_does_not_either(self, place, router):
        place, stores = behind_trouble(place)
        async with place.memory(router) as memory:
            await memory.semantic.remember(BOB, note(BOAT))
            go_on = stores[0].hold("replace")
            leaving = asyncio.create_task(memory.semantic.remember(ADA, note(TEA)))
            await stores[0].reached["replace"].wait()
            leaving.cancel()
            place.clock.now += 1
            erasing = await begun(memory, stores)
            go_on.set()
            assert (await erasing).memories == 1
            with pytest.raises(asyncio.CancelledError):
                await leaving
            assert (await memory.export("acme", "ada")).records == ()

    async def test_a_merge_in_another_process_does_not(self, request, tmp_path, router):
        """Over one database, each with its own locks."""
        here = where("pgvector", request, tmp_path / "here")
        there, stores = behind_trouble(replace(here, folder=tmp_path / "there"))
        for each in (here, there):
            each.folder.mkdir()
        async with here.memory(router) as one, there.memory(router) as other:
            await one.semantic.remember(ADA, note(TEA, scope=AGENT))
            await other.semantic.memories(BOB, ALL)
            go_on = stores[0].hold("replace")
            merging = asyncio.create_task(other.semantic.remember(BOB, note(TEA, scope=AGENT)))
            await stores[0].reached["replace"].wait()
            assert (await one.erase("acme", "ada")).memories == 1
            go_on.set()
            kept, outcome = await merging
            assert outcome is CREATED
            assert kept.origins == (Origin("bob", "s1", "", here.clock.now),)
            assert (await one.export("acme", "ada")).records == ()

    async def test_a_text_that_is_on_its_way_is_refused(self, folder, router):
        place, stores = behind_trouble(folder)
        async with place.memory(router) as memory:
            await memory.semantic.remember(BOB, note(BOAT))
            go_on = stores[0].hold("prepare")  # it has been embedded
            coming = asyncio.create_task(memory.semantic.remember(ADA, note(TEA)))
            await stores[0].reached["prepare"].wait()
            place.clock.now += 1
            await memory.erase("acme", "ada")
            place.clock.now += 1
            go_on.set()
            assert await refused(coming) == "PRINCIPAL_ERASED"
            assert (await memory.export("acme", "ada")).records == ()

    async def test_of_many_at_once_nothing_is_left_that_was_said_before(self, folder, router):
        async with folder.memory(router) as memory:
            said = [note(f"Number {n % 7} is odd.", duplicate_threshold=1) for n in range(30)]
            calls = [memory.semantic.remember(ADA, each) for each in said]
            tasks = [asyncio.create_task(each) for each in calls]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await memory.erase("acme", "ada")
            left = (await memory.export("acme", "ada")).records
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert left == (await memory.export("acme", "ada")).records == ()
        failed = [each for each in done if isinstance(each, BaseException)]
        assert {each.reason for each in failed} <= {"PRINCIPAL_ERASED"}


class TestWhatWasSaidBefore:
    async def test_a_principal_was_erased_is_refused(self, plain, folder):
        before = folder.clock.now
        await plain.erase("acme", "ada")
        for said_at in (None, before, before - 1):
            said = note(TEA, said_at=said_at)
            assert await refused(plain.semantic.remember(ADA, said)) == "PRINCIPAL_ERASED"
        folder.clock.now += 1
        said = note(TEA, said_at=before)
        assert await refused(plain.semantic.remember(ADA, said)) == "PRINCIPAL_ERASED"
        assert (await plain.semantic.remember(ADA, note(TEA)))[1] is CREATED

    async def test_is_remembered_of_another_principal_and_tenant(self, plain, folder):
        await plain.erase("acme", "ada")
        for reader in (BOB, replace(ADA, tenant="elsewhere"), replace(ADA, principal="")):
            assert (await plain.semantic.remember(reader, note(TEA)))[1] is CREATED

    async def test_a_session_was_forgotten_is_refused_of_this_session(self, plain, folder):
        await plain.semantic.remember(ADA, note(TEA))
        await plain.semantic.forget(ADA, Forgetting(session="s1"))
        for said in (note(TEA), note(TEA, scope=SESSION), note(TEA, scope=AGENT)):
            assert await refused(plain.semantic.remember(ADA, said)) == "MEMORIES_FORGOTTEN"
        elsewhere = replace(ADA, session="s2")
        assert (await plain.semantic.remember(elsewhere, note(TEA)))[1] is CREATED
        assert (await plain.semantic.remember(BOB, note(TEA)))[1] is CREATED

    async def test_all_was_forgotten_is_refused_in_every_session(self, plain, folder):
        reader = replace(ADA, session="")
        await plain.semantic.forget(reader, Forgetting(all=True))
        for session in ("", "s1", "s2"):
            said = plain.semantic.remember(replace(ADA, session=session), note(TEA))
            assert await refused(said) == "MEMORIES_FORGOTTEN"
        assert (await plain.semantic.remember(BOB, note(TEA)))[1] is CREATED
        other = replace(ADA, agent="other")
        assert (await plain.semantic.remember(other, note(TEA), "main"))[1] is CREATED
        assert (await plain.semantic.remember(ADA, note(TEA), "default"))[1] is CREATED

    async def test_was_forgotten_is_refused_by_each_name_of_the_collection(self, folder, router):
        names = {"alias": CollectionPlace(folder.place)}
        async with folder.memory(router, more=names) as memory:
            await memory.semantic.forget(ADA, Forgetting(all=True), "alias")
            for name in ("alias", "main"):
                said = memory.semantic.remember(ADA, note(TEA), name)
                assert await refused(said) == "MEMORIES_FORGOTTEN"

    async def test_one_memory_was_forgotten_is_remembered(self, plain):
        kept, _ = await plain.semantic.remember(ADA, note(TEA))
        await plain.semantic.forget(ADA, Forgetting(kept.id))
        assert (await plain.semantic.remember(ADA, note(TEA)))[1] is CREATED

    async def test_is_never_after_now(self, plain, folder):
        await plain.erase("acme", "ada")
        later = note(TEA, said_at=folder.clock.now + 1000)
        assert await refused(plain.semantic.remember(ADA, later)) == "PRINCIPAL_ERASED"

    async def test_is_known_for_seven_days_and_older_is_refused(self, plain, folder, router):
        now = folder.clock.now
        await plain.semantic.remember(ADA, note(TEA, said_at=now - 7 * DAY))
        with pytest.raises(InvalidInput) as caught:
            await plain.semantic.remember(ADA, note(BOAT, said_at=now - 7 * DAY - 1))
        assert caught.value.violations[0].field == "said_time"

    async def test_is_known_after_a_sweep_for_as_long(self, folder, router):
        async with folder.memory(router) as memory:
            await memory.erase("acme", "ada")
            before = folder.clock.now
            folder.clock.now += 7 * DAY
            await memory.semantic.sweep()
            said = note(TEA, said_at=before)
            assert await refused(memory.semantic.remember(ADA, said)) == "PRINCIPAL_ERASED"

    async def test_is_not_shown_to_a_model_any_more(self, folder, router):
        """Nor is a collection made for it."""
        async with folder.memory(router) as memory:
            await memory.semantic.forget(ADA, Forgetting(all=True))
            await refused(memory.semantic.remember(ADA, note(TEA)))
            assert (await memory.semantic.memories(ADA, ALL)).memories == ()


async def test_those_who_hear_are_told_before_it_is_acknowledged(folder, router):
    heard = []

    async def hear(erasure: Erasure) -> None:
        heard.append(erasure)

    folder.hearing.append(hear)
    async with folder.memory(router) as memory:
        await memory.erase("acme", "ada")
        await memory.semantic.forget(BOB, Forgetting(session="s2"))
        await memory.semantic.forget(BOB, Forgetting(all=True))
        with pytest.raises(NotFound):
            await memory.semantic.forget(BOB, Forgetting("m_1"))
    assert heard == [
        Erasure("acme", "ada"),
        Erasure("acme", "bob", "helper", "s2"),
        Erasure("acme", "bob", "helper"),
    ]


class TestATimeToLive:
    async def test_ends_a_memory_for_everybody_who_asks(self, memory, place):
        kept, _ = await memory.semantic.remember(ADA, note(TEA, ttl=60.0))
        await memory.semantic.remember(ADA, note(BOAT))
        assert kept.expires_at == place.clock.now + 60
        assert len(await memory.semantic.recall(ADA, asks("tea"))) == 2
        place.clock.now += 60
        assert texts(await memory.semantic.recall(ADA, asks("tea"))) == [BOAT]
        assert texts((await memory.semantic.memories(ADA, ALL)).memories) == [BOAT]
        assert len((await memory.export("acme", "ada")).records) == 1
        with pytest.raises(NotFound):
            await memory.semantic.forget(ADA, Forgetting(kept.id))

    async def test_is_from_the_last_time_that_it_was_remembered(self, memory, place):
        await memory.semantic.remember(ADA, note(TEA, ttl=60.0))
        place.clock.now += 50
        kept, outcome = await memory.semantic.remember(ADA, note(TEA))
        assert (outcome, kept.expires_at) == (MERGED, place.clock.now + 60)
        kept, _ = await memory.semantic.remember(ADA, note(TEA, ttl=10.0))
        assert kept.expires_at == place.clock.now + 10
        kept, _ = await memory.semantic.remember(ADA, note(TEA, ttl=0.0))
        assert kept.expires_at is None
        place.clock.now += 1000
        assert texts(await memory.semantic.recall(ADA, asks("tea"))) == [TEA]

    async def test_leaves_nothing_to_merge_with_once_it_is_over(self, memory, place):
        await memory.semantic.remember(ADA, note(TEA, ttl=60.0, metadata={"old": 1}))
        place.clock.now += 60
        kept, outcome = await memory.semantic.remember(ADA, note(TEA))
        assert (outcome, kept.metadata, len(kept.origins)) == (CREATED, {}, 1)
        assert (await memory.semantic.memories(ADA, ALL)).memories == (kept,)

    async def test_is_swept(self, memory, place):
        await memory.semantic.remember(ADA, note(TEA, ttl=60.0))
        await memory.semantic.remember(BOB, note(BOAT))
        place.clock.now += 60
        await memory.semantic.sweep()
        place.clock.now -= 60
        assert (await memory.semantic.memories(ADA, ALL)).memories == ()
        assert len((await memory.semantic.memories(BOB, ALL)).memories) == 1

    async def test_is_swept_also_where_another_store_can_not_be(self, folder, router):
        more = {"other": CollectionPlace(StorePlace("faiss", "other"))}
        marks, other = folder.folder / "marks.db", folder.folder / "faiss" / "other.db"
        async with folder.memory(router, more=more) as memory:
            await memory.erase("acme", "bob")
            for collection in ("other", "main"):
                await memory.semantic.remember(ADA, note(TEA, ttl=60.0), collection)
            folder.clock.now += 30 * DAY
            for path, table in ((marks, "erased"), (other, "record")):
                _keep_from_deleting(path, table)
            await memory.semantic.sweep()
            folder.clock.now -= 30 * DAY
            left = [
                (await memory.semantic.memories(ADA, MemoryQuery(collection=each))).memories
                for each in ("other", "main")
            ]
        assert [len(each) for each in left] == [1, 0]

    async def test_goes_over_the_wire_and_is_checked(self, folder, router):
        async with folder.memory(router, over_the_wire) as memory:
            kept, _ = await memory.semantic.remember(ADA, note(TEA, ttl=0.5))
            assert kept.expires_at == folder.clock.now + 0.5
            for wrong in (-1.0, 1e12, float("nan")):
                with pytest.raises(InvalidInput) as caught:
                    await memory.semantic.remember(ADA, note(TEA, ttl=wrong))
                assert caught.value.violations[0].field == "ttl_seconds"


def _keep_from_deleting(file, table) -> None:
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute(
            f"CREATE TRIGGER full BEFORE DELETE ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"
        )


class TestTheFiles:
    """Of the store in a folder, which is the one that is used where nobody says otherwise."""

    @pytest_asyncio.fixture(loop_scope="module")
    async def kept(self, folder, router):
        async with folder.memory(router) as memory:
            for n in range(40):
                said = note(f"{self.secret(n)} {n} " * (n % 5 + 1), duplicate_threshold=1, ttl=60.0)
                reader = replace(ADA if n % 2 else BOB, session=f"s{n % 4}")
                await memory.semantic.remember(reader, said)
            yield memory

    def secret(self, n: int) -> str:
        return "quelque chose d'ada" if n % 2 else "something of bob's"

    def written(self, folder) -> bytes:
        paths = (path for path in folder.folder.rglob("*") if path.is_file())
        return b"".join(path.read_bytes() for path in paths)

    def left(self, folder) -> list[bool]:
        written = self.written(folder)
        return [self.secret(n).encode() in written for n in (1, 0)]

    async def test_have_nothing_of_a_principal_who_is_erased(self, kept, folder):
        assert self.left(folder) == [True, True]
        assert (await kept.erase("acme", "ada")).memories == 20
        assert self.left(folder) == [False, True]

    async def test_have_nothing_of_what_was_forgotten(self, kept, folder):
        await kept.semantic.forget(replace(ADA, session=""), Forgetting(all=True))
        assert self.left(folder) == [False, True]
        for session in ("s0", "s2"):
            await kept.semantic.forget(BOB, Forgetting(session=session))
        assert self.left(folder) == [False, False]

    async def test_have_nothing_of_one_that_was_forgotten_by_its_id(self, folder, router):
        text = f"The password is {uuid4().hex}."
        async with folder.memory(router) as memory:
            one, _ = await memory.semantic.remember(ADA, note(text))
            await memory.semantic.forget(ADA, Forgetting(one.id))
            assert text.encode() not in self.written(folder)

    async def test_have_nothing_of_what_is_over(self, kept, folder):
        folder.clock.now += 60
        await kept.semantic.sweep()
        assert self.left(folder) == [False, False]
