"""Collections that were made before words were kept in them: brought up to date, or refused."""

import asyncio
import json

import asyncpg
import chromadb
import pytest
from qdrant_client import AsyncQdrantClient, models

from servers.kernel.errors import NotReady
from servers.kernel.sqlite import open_database
from servers.kernel.vectors import chroma_points, payloads, rows
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.ports import Scope
from tests.contract.vector_fixture import ACME, EAST, SPACE, points, record

TEXT = "fox"
LOST_WORDS = """
    ALTER TABLE "vectors_old_p" DROP COLUMN terms, DROP COLUMN weights,
        ADD COLUMN words tsvector GENERATED ALWAYS AS (to_tsvector('simple', text)) STORED;
    CREATE INDEX ON "vectors_old_p" USING gin (words);
    ALTER TABLE "vectors_old_r" DROP COLUMN expires_at;
"""


async def finds(collection, backend):
    async with open_collection(backend, collection) as store:
        found = [each.record.id for each in await store.keywords(ACME, "Fox", 10, {})]
        await store.replace("acme", record("new"), points(EAST, text=TEXT))
        again = [each.record.id for each in await store.keywords(ACME, "Fox", 10, {})]
        await store.delete("acme", "old")
        await store.replace("acme", record("over", expires_at=1.0), points(EAST, text=TEXT))
        assert [each.id for each in await store.records(Scope("acme", now=1.0), "", 9)] == ["new"]
        assert await store.sweep(1.0) == 1
        return found, again, len(await store.keywords(ACME, "Fox", 10, {}))


async def test_a_folder_of_faiss_is_brought_up_to_date(tmp_path):
    async with open_database(tmp_path / "old.db", rows.MIGRATIONS[:1]) as database:
        await database.write(_older_rows)
    assert await finds(Collection("old", tmp_path), "faiss") == (["old"], ["new", "old"], 1)


def _older_rows(connection):
    rows.remember(connection, SPACE)
    connection.execute(
        "INSERT INTO record VALUES (1, 'acme', 'old', '', '', '', 1, ?, '[]', 1.0)",
        (json.dumps({}),),
    )
    values = f"{TEXT} 0", EAST.tobytes()
    connection.execute("INSERT INTO point VALUES (1, 1, 0, 0, 5, ?, ?)", values)
    connection.execute("UPDATE changes SET n = 1")


async def test_tables_of_pgvector_are_brought_up_to_date(tmp_path, postgres):
    collection = Collection("old", tmp_path, postgres.schema())
    async with open_collection("pgvector", collection) as store:
        await store.prepare(SPACE)
        await store.replace("acme", record("old"), points(EAST, text=TEXT))
    connection = await asyncpg.connect(collection.address)
    await connection.execute(LOST_WORDS)
    await connection.close()
    assert await finds(collection, "pgvector") == (["old"], ["new", "old"], 1)


async def test_a_collection_of_qdrant_still_works_and_refuses_words(tmp_path):
    client = AsyncQdrantClient(path=str(tmp_path / "old"))
    await client.create_collection(
        "old",
        vectors_config=models.VectorParams(size=4, distance=models.Distance.COSINE),
        metadata={"model": SPACE.model, "dimension": SPACE.dimension},
    )
    await client.close()
    await _refuses(Collection("old", tmp_path), "qdrant")


async def test_a_collection_of_chroma_still_works_and_refuses_words(tmp_path):
    client = chromadb.PersistentClient(
        str(tmp_path), settings=chromadb.Settings(anonymized_telemetry=False)
    )
    made = client.create_collection(
        "old",
        metadata={"model": SPACE.model, "dimension": SPACE.dimension},
        configuration={"hnsw": {"space": "cosine"}},
        embedding_function=None,
    )
    (point,) = points(EAST)
    said = payloads.of_record("acme", record("first"), 1) | {"version": "v"}
    without_text = {k: v for k, v in payloads.of_point(point).items() if k != "text"}
    made.upsert(
        ids=["v/0"],
        embeddings=[list(EAST)],
        documents=[point.text],
        metadatas=[chroma_points.flat(said) | without_text],
    )
    await asyncio.to_thread(client.close)
    await _refuses(Collection("old", tmp_path), "chroma", ["first"])


async def _refuses(collection, backend, there=()):
    async with open_collection(backend, collection) as store:
        await store.replace("acme", record("new"), points(EAST, text=TEXT))
        found = await store.search(Scope("acme", now=5.0), EAST, 10, {})
        assert sorted((each.record.id, each.text) for each in found) == [
            *((name, "text 0") for name in there),
            ("new", "fox 0"),
        ]
        with pytest.raises(NotReady) as caught:
            await store.keywords(ACME, TEXT, 10, {})
        assert caught.value.reason == "WORDS_NOT_KEPT"
