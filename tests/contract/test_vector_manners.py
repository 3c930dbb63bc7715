"""How stores of vectors behave to the rest of the process: they neither block it, nor leave
anything half done where a caller goes away."""

import asyncio
import gc
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import chromadb
import pytest

from servers.kernel import postgres as kernel_postgres
from servers.kernel.errors import NotReady, Unavailable
from servers.kernel.sqlite import open_database
from servers.kernel.vectors import faiss, rows
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.ports import Space
from servers.kernel.vectors.stores import StorePlace, Stores, store_at
from tests.contract.vector_fixture import ACME, EAST, NORTH, SPACE, points, record, unit


class Gate:
    """Holds a function of a thread until it is opened."""

    def __init__(self, function) -> None:
        self.function, self.entered, self.open = function, threading.Event(), threading.Event()

    def __call__(self, *args):
        self.entered.set()
        assert self.open.wait(20)
        return self.function(*args)


@pytest.mark.parametrize("backend", ["faiss", "qdrant", "chroma"])
async def test_others_go_on_while_a_folder_is_searched(backend, tmp_path):
    async with open_collection(backend, Collection("busy", tmp_path)) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(EAST))
        went_on = 0

        async def others() -> None:
            nonlocal went_on
            while True:
                await asyncio.sleep(0)
                went_on += 1

        others_at_work = asyncio.create_task(others())
        await store.search(ACME, EAST, 1, {})
        others_at_work.cancel()
        assert went_on > 1


class TestFaiss:
    async def test_nobody_writes_while_a_search_that_was_left_goes_on(self, tmp_path, monkeypatch):
        """FAISS would read memory that the writer has freed."""
        async with faiss.open_faiss(tmp_path, "c") as store:
            await store.prepare(SPACE)
            gate = Gate(store._index.nearest)
            monkeypatch.setattr(store._index, "nearest", gate)
            await store.replace("acme", record("a"), points(EAST))
            search = asyncio.create_task(store.search(ACME, EAST, 1, {}))
            await asyncio.to_thread(gate.entered.wait, 20)
            search.cancel()
            await asyncio.wait([search])
            writing = asyncio.create_task(store.replace("acme", record("b"), points(NORTH)))
            await store.count("acme")
            await asyncio.wait([writing], timeout=0.1)
            wrote = writing.done()
            gate.open.set()
            await writing
        assert not wrote

    async def test_is_saved_by_one_at_a_time_when_it_closes(self, tmp_path, monkeypatch):
        gate, at_once, most = Gate(faiss.write_index), [], []

        def write(*args) -> None:
            at_once.append(1)
            most.append(len(at_once))
            gate(*args)
            at_once.pop()

        monkeypatch.setattr(faiss, "write_index", write)
        async with faiss.open_faiss(tmp_path, "c", save_every=0.0) as store:
            await store.prepare(SPACE)
            await asyncio.to_thread(gate.entered.wait, 20)
            asyncio.get_running_loop().call_later(0.05, gate.open.set)
        assert set(most) == {1}

    async def test_that_was_left_while_it_got_its_model_remembers_it(self, tmp_path):
        async with faiss.open_faiss(tmp_path, "c") as store:
            preparing = asyncio.create_task(store.prepare(SPACE))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            preparing.cancel()
            await asyncio.wait([preparing])
            with pytest.raises(NotReady):
                await store.prepare(Space("another", 8))

    async def test_reads_the_words_of_older_points_in_proportion_to_them(self, tmp_path):
        few, many = [await _steps_to_read(tmp_path, count) for count in (500, 2000)]
        assert many < 8 * few  # four times as many, and not sixteen times as much


async def _steps_to_read(folder, count: int) -> int:
    """Of SQLite's machine, for the words of points that an older version wrote."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    def read(connection) -> int:
        connection.set_progress_handler(step, 100)
        try:
            return rows.read_words(connection, most=count)
        finally:
            connection.set_progress_handler(None, 100)

    file = folder / f"{count}.db"
    async with open_database(file, rows.MIGRATIONS[:1]) as database:
        await database.write(lambda connection: _older_points(connection, count))
    async with open_database(file, rows.MIGRATIONS) as database:
        while await database.write(read):
            pass
        having = await database.read(lambda c: rows.having(c, ["fox"]))
    assert len(having["fox"]) == count
    return steps


def _older_points(connection, count: int) -> None:
    rows.remember(connection, SPACE)
    connection.execute(
        "INSERT INTO record VALUES (1, 'acme', 'old', '', '', '', ?, '{}', '[]', 1.0)", (count,)
    )
    values = [(n, EAST.tobytes()) for n in range(1, count + 1)]
    connection.executemany("INSERT INTO point VALUES (?, 1, 0, 0, 5, 'fox', ?)", values)


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


# Qdrant's library leaves its lock file to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("backend", ["faiss", "qdrant"])
async def test_a_folder_that_another_process_has_open_is_named(backend, tmp_path):
    collection = Collection("held", tmp_path)
    async with open_collection(backend, collection):
        with pytest.raises(NotReady) as caught:
            async with open_collection(backend, collection):
                pass
    assert caught.value.reason == "STATE_IN_USE"
    caught.value.__cause__ = None
    del caught
    gc.collect()


async def test_a_collection_that_is_gone_from_chroma_is_named_and_can_be_made_again(tmp_path):
    async with open_collection("chroma", Collection("gone", tmp_path)) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(EAST))
        settings = chromadb.Settings(anonymized_telemetry=False)
        other = chromadb.PersistentClient(str(tmp_path), settings=settings)
        await asyncio.to_thread(other.delete_collection, "gone")
        with pytest.raises(Unavailable, match="take the documents in again"):
            await store.search(ACME, EAST, 1, {})
        assert await store.search(ACME, EAST, 1, {}) == []
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(EAST))
        assert len(await store.search(ACME, EAST, 1, {})) == 1
        other.close()


async def test_pgvector_finds_one_tenant_behind_the_points_of_many(postgres):
    """However early a scan of the index gives up by the server's own settings."""
    collection = Collection("many", Path("."), postgres.schema())
    schema = collection.address.rpartition("=")[2]
    async with open_collection("pgvector", collection) as store:
        await store.prepare(SPACE)
        around = [unit(1, n / 800, n % 7 / 100, n % 11 / 100) for n in range(800)]
        await store.replace("other", record("theirs"), points(*around))
        await store.replace("acme", record("mine"), points(NORTH))
    # The plan of a large table: the index of vectors is all there is.
    postgres.psql(f"DROP INDEX {schema}.vectors_many_p_record_idx")
    postgres.psql("ALTER ROLE postgres SET hnsw.max_scan_tuples = 1")
    try:
        async with open_collection("pgvector", collection) as store:
            found = await store.search(ACME, EAST, 1, {})
    finally:
        postgres.psql("ALTER ROLE postgres RESET hnsw.max_scan_tuples")
    assert [each.record.id for each in found] == ["mine"]


async def test_pgvector_takes_a_record_that_is_longer_at_work_than_one_answer(
    postgres, monkeypatch
):
    monkeypatch.setattr(kernel_postgres, "_ANSWER", 1.0)
    collection = Collection("long", Path("."), postgres.schema())
    schema = collection.address.rpartition("=")[2]
    async with open_collection("pgvector", collection) as store:
        await store.prepare(SPACE)
        slow = f"FUNCTION {schema}.slow()"
        postgres.psql(
            f"CREATE {slow} RETURNS trigger LANGUAGE plpgsql AS "
            "'BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END'; "
            f"CREATE TRIGGER slow BEFORE INSERT ON {schema}.vectors_long_p "
            f"FOR EACH ROW EXECUTE {slow}"
        )
        await store.replace("acme", record("long"), points(*[EAST] * 1500))
        assert await store.count("acme") == 1500
