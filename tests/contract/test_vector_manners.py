"""How stores of vectors behave to the rest of the process: they neither block it, nor leave
anything half done where a caller goes away."""

import asyncio
import gc
import threading
from array import array
from dataclasses import dataclass
from functools import partial

import chromadb
import pytest

from servers.kernel.errors import NotReady, Unavailable
from servers.kernel.sqlite import open_database
from servers.kernel.vectors import faiss, postings, rows
from servers.kernel.vectors.chroma import open_chroma
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.index_faiss import FaissIndex
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.ports import Space
from tests.contract.vector_fixture import ACME, EAST, NORTH, SPACE, UP, points, record
from tests.patience import PATIENCE


class Gate:
    """Holds threads until it is opened, and counts how many are there at once."""

    def __init__(self) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.inside, self.most = 0, 0

    def wait(self) -> None:
        self.inside += 1
        self.most = max(self.most, self.inside)
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.inside -= 1


class Slow(FaissIndex):
    """Is at a search, or at its file, for as long as a gate is closed."""

    def __init__(self, dimension, packed=b"", *, gate) -> None:
        super().__init__(dimension, packed)
        self._gate = gate

    def nearest(self, seen, vector, limit):
        self._gate.wait()
        return super().nearest(seen, vector, limit)

    def packed(self) -> bytes:
        self._gate.wait()
        return super().packed()


@pytest.mark.parametrize("backend", ["faiss", "qdrant", "chroma"])
async def test_others_go_on_while_a_folder_is_searched(backend, tmp_path):
    async with open_collection(backend, Collection("busy", tmp_path)) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(EAST))
        went_on = 0

        async def others() -> None:
            nonlocal went_on
            while True:
                went_on += 1
                await asyncio.sleep(0)

        others_at_work = asyncio.create_task(others())
        await store.search(ACME, EAST, 1, {})
        others_at_work.cancel()
        assert went_on > 0


class TestFaiss:
    async def test_nobody_writes_while_a_search_that_was_left_goes_on(self, tmp_path):
        """FAISS would read memory that the writer has freed."""
        gate = Gate()
        async with faiss.open_faiss(tmp_path, "c", new_index=partial(Slow, gate=gate)) as store:
            await store.prepare(SPACE)
            await store.replace("acme", record("a"), points(EAST))
            search = asyncio.create_task(store.search(ACME, EAST, 1, {}))
            await asyncio.to_thread(gate.entered.wait, PATIENCE)
            search.cancel()
            await asyncio.wait([search])
            writing = asyncio.create_task(store.replace("acme", record("b"), points(NORTH)))
            await store.count("acme")
            await asyncio.wait([writing], timeout=0.1)
            wrote = writing.done()
            gate.open.set()
            await writing
        assert not wrote

    async def test_finds_words_while_somebody_looks_for_vectors(self, tmp_path):
        gate = Gate()
        async with faiss.open_faiss(tmp_path, "c", new_index=partial(Slow, gate=gate)) as store:
            await store.prepare(SPACE)
            await store.replace("acme", record("a"), points(EAST, text="fox"))
            search = asyncio.create_task(store.search(ACME, EAST, 1, {}))
            await asyncio.to_thread(gate.entered.wait, PATIENCE)
            assert len(await store.keywords(ACME, "fox", 1, {})) == 1
            gate.open.set()
            assert len(await search) == 1

    async def test_reads_words_in_proportion_to_what_may_be_seen(self, tmp_path):
        alone, few, many = [await _found_among(tmp_path, others) for others in (0, 500, 5000)]
        assert many.steps < 2 * few.steps
        assert many.scores == few.scores == alone.scores

    async def test_is_saved_by_one_at_a_time_when_it_closes(self, tmp_path):
        gate = Gate()
        opening = faiss.open_faiss(
            tmp_path, "c", save_every=0.0, new_index=partial(Slow, gate=gate)
        )
        async with opening as store:
            await store.prepare(SPACE)
            await asyncio.to_thread(gate.entered.wait, PATIENCE)
            asyncio.get_running_loop().call_later(0.05, gate.open.set)
        assert gate.most == 1

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


class Steps:
    """Of SQLite's machine, in tens."""

    def __init__(self, connection) -> None:
        self._connection, self.count = connection, 0

    def _step(self) -> None:
        self.count += 1

    def __enter__(self):
        self._connection.set_progress_handler(self._step, 10)
        return self

    def __exit__(self, *_) -> None:
        self._connection.set_progress_handler(None, 10)


async def _steps_to_read(folder, count: int) -> int:
    """For the words of points that an older version wrote."""
    steps = 0

    def read(connection) -> int:
        nonlocal steps
        with Steps(connection) as took:
            left = rows.read_words(connection, most=count)
        steps += took.count
        return left

    file = folder / f"{count}.db"
    async with open_database(file, rows.MIGRATIONS[:1]) as database:
        await database.write(lambda connection: _older_points(connection, count))
    async with open_database(file, rows.MIGRATIONS) as database:
        while await database.write(read):
            pass
        every = array("q", range(1, count + 1))
        best = await database.read(lambda c: postings.best(c, every, ["fox"], count))
    assert len(best) == count
    return steps


@dataclass(frozen=True)
class Search:
    steps: int
    scores: list[float]


async def _found_among(folder, others: int) -> Search:
    """Words of some points of ours, and of many of others."""

    def find(connection) -> Search:
        seen = rows.seen(connection, ACME, {})
        with Steps(connection) as took:
            best = postings.best(connection, seen, ["fox", "1", "2"], 10)
        return Search(took.count, [score for _, score in best])

    async with open_database(folder / f"{others}.db", rows.MIGRATIONS) as database:
        for tenant, count in (("other", others), ("acme", 3)):
            many = points(*[EAST] * count, text="fox fox")
            write = partial(rows.replace, tenant=tenant, new=record("a"), points=many)
            await database.write(write)
        return await database.read(find)


def _older_points(connection, count: int) -> None:
    rows.remember(connection, SPACE)
    connection.execute(
        "INSERT INTO record VALUES (1, 'acme', 'old', '', '', '', ?, '{}', '[]', 1.0)", (count,)
    )
    values = [(n, EAST.tobytes()) for n in range(1, count + 1)]
    connection.executemany("INSERT INTO point VALUES (?, 1, 0, 0, 5, 'fox', ?)", values)


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


@pytest.mark.parametrize("backend", ["qdrant", "chroma"])
async def test_a_collection_that_is_gone_is_named_and_can_be_made_again(backend, tmp_path):
    async with open_collection(backend, Collection("gone", tmp_path)) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(EAST))
        await _delete_collection(backend, store, tmp_path)
        with pytest.raises(Unavailable, match="take the documents in again"):
            await store.search(ACME, EAST, 1, {})
        assert await store.search(ACME, EAST, 1, {}) == []
        await _write(store)
        await _delete_collection(backend, store, tmp_path)
        with pytest.raises(Unavailable, match="take the documents in again"):
            await _write(store)
        await _write(store)
        assert len(await store.search(ACME, EAST, 1, {})) == 1


async def _write(store) -> None:
    await store.prepare(SPACE)
    await store.replace("acme", record("a"), points(EAST))


async def _delete_collection(backend, store, folder) -> None:
    if backend == "qdrant":  # nobody else can open its folder
        await store._in.client.delete_collection("gone")
        return
    settings = chromadb.Settings(anonymized_telemetry=False)
    other = chromadb.PersistentClient(str(folder), settings=settings)
    await asyncio.to_thread(other.delete_collection, "gone")
    other.close()


@pytest.mark.parametrize("exact", [0, 2000], ids=["by its graph", "one by one"])
async def test_chroma_finds_what_its_graph_does_not_lead_to(exact, tmp_path):
    """It makes the graph again when a folder is opened; of points that were replaced, and of
    equal ones, it then does not lead to each."""
    async with open_chroma(Collection("again", tmp_path), exact=exact) as store:
        await store.prepare(SPACE)
        for _ in range(3):
            await store.replace("acme", record("equal"), points(*[EAST] * 300))
            await store.replace("acme", record("other"), points(NORTH, UP))
    async with open_chroma(Collection("again", tmp_path), exact=exact) as store:
        found = await store.search(ACME, NORTH, 1000, {})
        assert (found[0].record.id, found[0].index, len(found)) == ("other", 0, 302)
        assert all(each.similarity == pytest.approx(0.0, abs=1e-6) for each in found[1:])


@pytest.mark.parametrize("backend", ["faiss", "qdrant"])
async def test_what_is_deleted_is_in_no_file_of_a_folder(backend, tmp_path):
    def left() -> int:
        files = (path for path in tmp_path.rglob("*") if path.is_file())
        return sum(path.read_bytes().count(b"fox") for path in files)

    async with open_collection(backend, Collection("gone", tmp_path)) as store:
        await store.prepare(SPACE)
        for n in range(20):
            kept = record(f"r{n}", title=f"fox {n} " * n)
            await store.replace("acme", kept, points(EAST, NORTH, text="fox " * n))
        assert left()
        await store.delete("acme", *(f"r{n}" for n in range(20)))
        assert left() == 0


async def test_what_a_folder_of_qdrant_has_acknowledged_is_not_in_its_log_alone(tmp_path):
    """Commits don't wait for the disk there: the log is brought to it before anybody hears."""
    async with open_collection("qdrant", Collection("kept", tmp_path)) as store:
        await store.prepare(SPACE)
        for write in (store.replace("acme", record("a"), points(EAST)), store.delete("acme", "a")):
            await write
            (log,) = tmp_path.rglob("storage.sqlite-wal")
            assert log.stat().st_size == 0
