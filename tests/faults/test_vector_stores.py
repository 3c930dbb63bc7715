"""Stores of vectors whose process, server or files die in the middle of writes."""

import asyncio
import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from servers.kernel.errors import Unavailable
from servers.kernel.vectors import faiss, payloads
from servers.kernel.vectors.chroma_client import sessions
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.ports import Scope
from tests.chroma_server import chroma_server
from tests.contract.vector_fixture import ACME, EAST, NORTH, SPACE, UP, points, record
from tests.patience import PATIENCE
from tests.postgres_server import postgres_server

ROOT = Path(__file__).parents[2]

# Three writers at once, each of versions of ten records of its own. Says what was acknowledged.
WRITER = """
import asyncio, sys
from pathlib import Path
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from tests.chroma_server import chroma_server
from tests.contract.vector_fixture import SPACE, points, record, unit

async def main(backend, folder, address):
    collection = Collection("doomed", Path(folder), address)
    async with open_collection(backend, collection) as store:
        await store.prepare(SPACE)
        print("ready", flush=True)

        async def write(who):
            for n in range(1, 100_000):
                name, size = f"{who}{n % 10}", n % 7 + 1
                vectors = [unit(9, ord(who) - 96, n % 10, i + 1) for i in range(size)]
                kept = record(name, content_hash=str(n), updated_at=float(n))
                await store.replace("acme", kept, points(*vectors))
                print(who, n, flush=True)

        await asyncio.gather(*map(write, "abc"))

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("backend", ["faiss", "pgvector", "qdrant", "chroma"])
async def test_what_a_killed_process_had_acknowledged_is_there(backend, request, tmp_path):
    address = request.getfixturevalue("postgres").schema() if backend == "pgvector" else ""
    last = await asyncio.to_thread(_killed, backend, tmp_path, address)
    async with open_collection(backend, Collection("doomed", tmp_path, address)) as store:
        await _has_all(store, last)
        await store.replace("acme", record("a0"), points(NORTH))


async def _has_all(store, last: dict[str, int]) -> None:
    """Whole versions, and none older than what was acknowledged."""
    kept = {each.id: each for each in await store.records(ACME, "", 100)}
    versions = {name: int(each.content_hash) for name, each in kept.items()}
    for who, end in last.items():
        for n in range(max(1, end - 9), end + 1):
            assert versions[f"{who}{n % 10}"] in (n, n + 10)
    found = await store.keywords(ACME, "text", 1000, {})  # all of them: each says "text"
    for name, each in kept.items():
        indexes = [hit.index for hit in found if hit.record.id == name]
        assert sorted(indexes) == list(range(each.points))
        assert each.points == versions[name] % 7 + 1
    near = await store.search(ACME, EAST, 1000, {})
    there = {(hit.record.id, hit.record.content_hash, hit.index) for hit in found}
    assert {(hit.record.id, hit.record.content_hash, hit.index) for hit in near} == there


def _killed(backend: str, folder: Path, address: str) -> dict[str, int]:
    """Of each writer the last write that was acknowledged before the process was killed."""
    words = [sys.executable, "-c", WRITER, backend, str(folder), address]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"}
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
        heard = [process.stdout.readline() for _ in range(60)]
        process.send_signal(signal.SIGKILL)
        heard += process.stdout.readlines()
    return {who: int(n) for who, n in map(str.split, heard)}


class TestFaiss:
    @pytest.mark.parametrize("damage", ["lost", "torn", "older", "another"])
    async def test_its_index_is_made_good_from_sqlite(self, tmp_path, damage):
        file = tmp_path / "c.faiss"
        async with faiss.open_faiss(tmp_path, "c") as store:
            await store.prepare(SPACE)
            await store.replace("acme", record("a"), points(EAST, NORTH))
            await store.replace("acme", record("gone"), points(EAST))
            await store.save()
            older = file.read_bytes()
            await store.replace("acme", record("b"), points(UP))
            await store.delete("acme", "gone")
        match damage:
            case "lost":
                file.unlink()
            case "torn":
                file.write_bytes(file.read_bytes()[:40])
            case "older":
                file.write_bytes(older)
            case "another":
                file.write_bytes(b"\0" * 4096)
        async with faiss.open_faiss(tmp_path, "c") as store:
            found = await store.search(ACME, UP, 10, {})
            assert (found[0].record.id, found[0].index) == ("b", 0)
            assert len(found) == 3

    async def test_a_writer_that_leaves_early_leaves_index_and_record_alike(self, tmp_path):
        async with faiss.open_faiss(tmp_path, "c") as store:
            await store.prepare(SPACE)
            for n in range(20):
                write = store.replace("acme", record(f"r{n}"), points(*[EAST] * 50))
                task = asyncio.create_task(write)
                await asyncio.sleep(0.0005 * n)
                task.cancel()
                await asyncio.wait([task])
            await store.replace("acme", record("last"), points(NORTH))
            kept = sum(each.points for each in await store.records(ACME, "", 100))
            assert len(await store.search(ACME, EAST, 10_000, {})) == kept


@pytest.mark.parametrize("backend", ["qdrant", "chroma"])
async def test_what_a_torn_write_left_is_out_of_sight_and_goes(backend, tmp_path):
    collection = Collection(f"c{uuid.uuid4().hex[:12]}", tmp_path)
    async with open_collection(backend, collection) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(NORTH, UP))
        await _tear(backend, store)
    async with open_collection(backend, collection) as store:
        found = await store.search(Scope("acme", "bob"), EAST, 10, {})
        assert sorted((each.record.id, each.index) for each in found) == [("a", 0), ("a", 1)]
        assert (await store.record(ACME, "a")).content_hash == "h1"
        await store.replace("acme", record("a", updated_at=3.0), points(UP))
        assert len(await store.search(ACME, EAST, 10, {})) == 1
        assert await store.count("acme") == 1


@pytest.mark.parametrize("deleted", [1, 2, 3])
async def test_a_record_of_qdrants_folder_is_whole_or_gone_after_half_a_deletion(
    deleted, tmp_path, monkeypatch
):
    """The newest version, and no older one that a torn write has left."""
    from qdrant_client.local.persistence import CollectionPersistence as Files

    from servers.kernel.vectors import qdrant_folder
    from servers.kernel.vectors.index_flat import FlatIndex

    monkeypatch.setattr(qdrant_folder, "best_index", lambda: FlatIndex)
    delete, left = Files.delete, [None] * deleted

    def torn(self, name) -> None:
        if not left:
            raise OSError("the process ends here")
        left.pop()
        delete(self, name)

    collection = Collection("torn", tmp_path)
    async with open_collection("qdrant", collection) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("a"), points(*[EAST] * 3))
        await _write("qdrant", store, record("a", updated_at=2.0, points=3), points(*[EAST] * 3))
        await store.replace("acme", record("b"), points(UP))
    async with open_collection("qdrant", collection) as store:
        with monkeypatch.context() as dying:
            dying.setattr(Files, "delete", torn)
            with pytest.raises(Unavailable):
                await store.delete("acme", "a")
    async with open_collection("qdrant", collection) as store:
        whole = [(2.0, 0), (2.0, 1), (2.0, 2)] if deleted == 1 else []
        near = await store.search(ACME, EAST, 9, {})
        shown = [(each.record.updated_at, each.index) for each in near if each.record.id == "a"]
        assert sorted(shown) == whole
        assert len(near) == len(whole) + 1
        await store.delete("acme", "a")
        assert await store.count("acme") == 1


@pytest.mark.parametrize("backend", ["qdrant", "chroma"])
async def test_a_version_that_a_torn_write_did_not_delete_is_in_no_list(backend, tmp_path):
    """Whoever asks for what the older one was, and the newer one is not."""
    collection = Collection(f"c{uuid.uuid4().hex[:12]}", tmp_path)
    async with open_collection(backend, collection) as store:
        await store.prepare(SPACE)
        for name in ("a", "b", "c"):
            await store.replace("acme", record(name, metadata={"is": "old"}), points(NORTH))
        kept = record(
            "a", updated_at=2.0, expires_at=9.0, acl=("ada",), metadata={"is": "new"}, points=1
        )
        await _write(backend, store, kept, points(EAST))
    async with open_collection(backend, collection) as store:
        old = {"is": "old"}
        assert [each.id for each in await store.records(ACME, "", 1, old)] == ["b"]
        assert [each.id for each in await store.records(ACME, "", 9, old)] == ["b", "c"]
        assert list(await store.records(ACME, "", 9, {"is": "new"})) == [kept]
        for others in (Scope("acme", "bob"), Scope("acme", now=10.0)):
            assert [each.id for each in await store.records(others, "", 9)] == ["b", "c"]
            assert await store.record(others, "a") is None
        assert await store.record(Scope("acme", "ada", 8.0), "a") == kept


@pytest.mark.parametrize("backend", ["qdrant", "chroma"])
async def test_a_version_that_a_torn_write_did_not_delete_is_swept_with_the_newer_one(
    backend, tmp_path
):
    """Of one that is over while the newer one is not, the newer one stays."""
    collection = Collection(f"c{uuid.uuid4().hex[:12]}", tmp_path)
    async with open_collection(backend, collection) as store:
        await store.prepare(SPACE)
        for name, ends in {"over": None, "not over": 8.0, "never torn": None}.items():
            await store.replace("acme", record(name, expires_at=ends), points(NORTH))
        for name, ends in {"over": 9.0, "not over": None}.items():
            kept = record(name, updated_at=2.0, expires_at=ends, points=1)
            await _write(backend, store, kept, points(EAST))
        await store.replace("other", record("over"), points(NORTH))
    async with open_collection(backend, collection) as store:
        assert await store.sweep(9.0) == 2
        for scope in (ACME, Scope("acme", now=10.0)):
            left = [each.id for each in await store.records(scope, "", 9)]
            assert left == ["never torn", "not over"]
            assert await store.record(scope, "over") is None
            found = await store.search(scope, NORTH, 9, {})
            assert sorted(each.record.id for each in found) == left
        assert (await store.record(ACME, "not over")).updated_at == 2.0
        assert await store.count("other") == 1
        assert await store.sweep(9.0) == 0


async def _tear(backend, store) -> None:
    """All but the last request of a write: point 0 has not come."""
    kept = record("a", content_hash="h2", updated_at=2.0, points=3)
    await _write(backend, store, kept, points(EAST, EAST, EAST)[1:])


async def _write(backend, store, kept, late) -> None:
    """Of a new version, without the removal of the one before."""
    said = payloads.of_record("acme", kept, kept.points) | {"version": f"torn {kept.id}"}
    if backend == "qdrant":
        from qdrant_client import models

        structs = [
            models.PointStruct(
                id=str(uuid.uuid4()), vector=list(p.vector), payload=said | payloads.of_point(p)
            )
            for p in late
        ]
        await store._in.client.upsert(store._in.name, structs, wait=True)
    else:
        from servers.kernel.vectors.chroma_points import flat

        await asyncio.to_thread(
            store._in._points.upsert,
            ids=[f"torn {kept.id}/{p.index}" for p in late],
            embeddings=[list(p.vector) for p in late],
            documents=[p.text for p in late],
            metadatas=[flat(said) | payloads.of_point(p) for p in late],
        )


async def test_a_postgresql_that_loses_its_power_keeps_what_it_acknowledged():
    with postgres_server() as server:
        collection = Collection("power", Path("."), server.schema())
        async with open_collection("pgvector", collection) as store:
            await store.prepare(SPACE)
            done = []

            async def write() -> None:
                for n in range(10_000):
                    await store.replace("acme", record(f"r{n}"), points(EAST, NORTH))
                    done.append(n)

            writing = asyncio.create_task(write())
            await _reaches(done, 30)
            await asyncio.to_thread(server.restart, signal.SIGQUIT)
            await _reaches(done, len(done) + 10)  # it goes on by itself
            writing.cancel()
            await asyncio.wait([writing])
            kept = {each.id for each in await store.records(ACME, "", 10_000)}
            assert {f"r{n}" for n in done} <= kept
            assert await store.count("acme") == 2 * len(kept)


async def test_a_chroma_server_that_is_killed_keeps_what_it_acknowledged(tmp_path):
    with chroma_server(tmp_path) as server:
        collection = Collection("killed", tmp_path, server.address)
        async with open_collection("chroma", collection) as store:
            await store.prepare(SPACE)
            last: dict[str, int] = {}
            done: list[int] = []

            async def write(who: str) -> None:
                for n in range(1, 10_000):
                    kept = record(f"{who}{n % 10}", content_hash=str(n), updated_at=float(n))
                    await store.replace("acme", kept, points(*[EAST] * (n % 7 + 1)))
                    last[who] = n
                    done.append(n)

            writing = [asyncio.create_task(write(who)) for who in "abc"]
            await _reaches(done, 60)
            await asyncio.to_thread(server.stop, signal.SIGKILL)
            ends = await asyncio.gather(*writing, return_exceptions=True)
            assert [type(each) for each in ends] == [Unavailable] * 3
            with pytest.raises(Unavailable):
                await store.search(ACME, EAST, 1, {})
            await asyncio.to_thread(server.start)
            await _has_all(store, last)  # the store that was open goes on
            await store.replace("acme", record("a0"), points(NORTH))


async def test_a_chroma_server_that_hangs_keeps_nobody_else_waiting(tmp_path):
    """Neither those who need a thread for something else, nor for ever those who asked it."""
    with chroma_server(tmp_path) as server:
        async with open_collection("chroma", Collection("hung", tmp_path, server.address)) as store:
            await store.prepare(SPACE)
            await store.replace("acme", record("a"), points(EAST))
            assert all(each.timeout.read for each in sessions(store._in.client))
            with server.hung():
                asked = [asyncio.create_task(store.count("acme")) for _ in range(40)]
                await asyncio.sleep(0)
                await asyncio.wait_for(asyncio.to_thread(int), PATIENCE)
                assert not any(each.done() for each in asked)
            assert await asyncio.gather(*asked) == [1] * 40


async def _reaches(done: list[int], count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(done) < count:  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.01)


async def test_a_database_that_is_away_is_named():
    for backend, address in {
        "pgvector": "postgresql://127.0.0.1:9/nowhere",
        "qdrant": "http://127.0.0.1:9",
        "chroma": "http://127.0.0.1:9",
    }.items():
        with pytest.raises(Unavailable) as caught:
            async with open_collection(backend, Collection("away", Path("."), address)):
                pass
        assert caught.value.reason == "STORE_UNAVAILABLE"
