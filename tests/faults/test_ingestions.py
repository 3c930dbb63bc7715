"""Ingestions whose mesh is killed, and whose stores are, while documents are taken in.

Each store has an ingestion of its own, of a tenant of its own, so that all are under way at once.
"""

import asyncio
import signal
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import grpc
import pytest
import pytest_asyncio
import yaml

from servers.domain.caller import Caller
from servers.domain.ingestions import Ingestion, IngestionState
from servers.domain.rag import Document
from servers.rag.remote import RemoteRag
from servers.rag.remote_ingestions import RemoteIngestions
from tests.chroma_server import ChromaServer, chroma_server
from tests.contract.rag_fixture import pipeline
from tests.faults.replicas import Replica
from tests.patience import PATIENCE
from tests.postgres_server import PostgresServer, postgres_server
from tests.scripted.held_texts import embeds_with, held_texts

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = 24  # documents of an ingestion
SERVERS = ("pgvector", "chroma-server")
STORES = (*SERVERS, "faiss", "qdrant", "chroma")


@dataclass
class World:
    mesh: Replica
    postgres: PostgresServer
    chroma: ChromaServer
    begun: asyncio.Event  # until then no first document is taken in
    troubled: asyncio.Event  # until then no last one is


@asynccontextmanager
async def meshes(folder, model, **stores):
    """A mesh with a pipeline on each store."""
    (folder / "config" / "rag").mkdir(parents=True)
    for name, store in stores.items():
        said = pipeline(name, vector_store=store, embeddings=embeds_with(model))
        (folder / "config" / "rag" / f"{name}.rag.yaml").write_text(yaml.safe_dump(said))
    mesh = Replica(folder)
    try:
        yield mesh
    finally:
        await mesh.kill()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    data = tmp_path_factory.mktemp("chroma")
    begun, troubled = asyncio.Event(), asyncio.Event()
    held = {rule(0): begun, rule(MANY - 1): troubled}
    with postgres_server() as postgres, chroma_server(data) as chroma:
        stores = {name: {"backend": name} for name in STORES}
        stores["pgvector"] |= {"dsn": postgres.schema()}
        stores["chroma-server"] = {"backend": "chroma", "url": chroma.address}
        async with held_texts(held) as model, meshes(folder, model, **stores) as mesh:
            await mesh.start()
            await warm(mesh)
            yield World(mesh, postgres, chroma, begun, troubled)


async def warm(mesh: Replica) -> None:
    """What opens slowly must not be passed by all the others."""
    async with dialled(mesh) as channel:
        for store in STORES:
            document = Document("first.md", b"It opens the store.")
            await RemoteRag(channel).ingest(Caller("first"), store, document)


def dialled(mesh: Replica):
    return grpc.aio.insecure_channel(f"127.0.0.1:{mesh.port}")


def rule(number: int) -> str:
    return f"Everybody keeps rule {number}. "


async def several():
    for number in range(MANY):
        text = rule(number) * 20  # more than one chunk
        yield Document(f"{number:03}.md", text.encode())


async def under_way(world: World, tenant: str, stores) -> dict[str, Ingestion]:
    """Some documents of each are taken in, and some are not."""
    world.begun.clear()
    world.troubled.clear()

    async def begin(store: str) -> Ingestion:
        return await ingestions.start(Caller(f"{tenant}-{store}"), store, several())

    async def some(given: Ingestion) -> Ingestion:
        async with aclosing(ingestions.watch(Caller(given.tenant), given.name)) as told:
            return await anext(each async for each in told if each.done >= 3)

    async with asyncio.timeout(PATIENCE), dialled(world.mesh) as channel:
        ingestions = RemoteIngestions(channel)
        given = await asyncio.gather(*map(begin, stores))
        world.begun.set()
        found = await asyncio.gather(*map(some, given))
    assert not any(each.over for each in found)
    return dict(zip(stores, found, strict=True))


async def ended(mesh: Replica, before: dict[str, Ingestion]) -> None:
    """All of them come to their end, and each document is there once, and whole."""
    async with dialled(mesh) as channel:
        for store, seen in before.items():
            caller = Caller(seen.tenant)
            now = await RemoteIngestions(channel).wait(caller, seen.name, PATIENCE)
            page = await RemoteRag(channel).documents(caller, store, 1000)
            kept = (await RemoteRag(channel).pipeline(caller, store)).chunks
            assert (now.state, now.done, now.failed) == (IngestionState.DONE, MANY, 0)
            # What was acknowledged is not taken in again; what was in hand may be there already.
            assert (now.created + now.unchanged, now.unchanged <= 1) == (MANY, True)
            assert (len(page.documents), kept) == (MANY, now.chunks)
            assert sum(each.chunks for each in page.documents) == kept


async def waits(mesh: Replica, seen: Ingestion) -> str:
    async with asyncio.timeout(PATIENCE), dialled(mesh) as channel:
        ingestions = RemoteIngestions(channel)
        async with aclosing(ingestions.watch(Caller(seen.tenant), seen.name)) as told:
            return await anext(each.waiting async for each in told if each.waiting)


async def test_stores_that_are_killed_are_waited_for(world):
    before = await under_way(world, "servers", SERVERS)
    await asyncio.to_thread(world.chroma.stop, signal.SIGKILL)
    await asyncio.to_thread(world.postgres.stop, signal.SIGQUIT)
    world.troubled.set()
    assert "can't be used" in await waits(world.mesh, before["chroma-server"])
    await asyncio.to_thread(world.chroma.start)
    await asyncio.to_thread(world.postgres.start)
    await ended(world.mesh, before)


async def test_a_mesh_that_is_killed_goes_on_with_every_store(world):
    before = await under_way(world, "mesh", STORES)
    await world.mesh.kill()
    world.troubled.set()
    await world.mesh.start()
    await ended(world.mesh, before)


async def test_a_document_that_was_stored_in_the_last_moment_is_there_once(tmp_path):
    """The store has it, and the ingestion had not been told so."""
    async with held_texts({}) as model, meshes(tmp_path, model, faiss={"backend": "faiss"}) as mesh:
        await mesh.start("stored:3")
        async with dialled(mesh) as channel:
            given = await RemoteIngestions(channel).start(Caller("acme"), "faiss", several())
            await mesh.died()
        await mesh.start()
        await ended(mesh, {"faiss": given})
        async with dialled(mesh) as channel:
            now = await RemoteIngestions(channel).get(Caller("acme"), given.name)
    assert (now.created, now.unchanged) == (MANY - 1, 1)
