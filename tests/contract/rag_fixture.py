"""A RAG service over the real router with the model that every mesh has, and real stores."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import yaml
from astromesh.rag.v1 import rag_service_pb2_grpc
from google.longrunning import operations_pb2_grpc

from servers.domain.caller import Caller
from servers.domain.rag import Document, PassageQuery
from servers.domain.services import Ingestions, Rag, Router
from servers.kernel.ids import new_id
from servers.kernel.sqlite import open_database
from servers.kernel.status import StatusInterceptor
from servers.kernel.vectors.stores import OpenStore, Stores, store_at
from servers.rag.adapters import readers
from servers.rag.adapters.spool import SqliteSpool
from servers.rag.adapters.spool_rows import MIGRATIONS
from servers.rag.declared import DeclaredPipeline, read_pipelines
from servers.rag.ingestions import SpooledIngestions
from servers.rag.remote import RemoteRag
from servers.rag.remote_ingestions import RemoteIngestions
from servers.rag.service import RagPipelines
from servers.rag.servicer import OperationsServicer, RagServicer
from servers.rag.working import Work, Worker
from servers.router.adapters.pool import open_providers
from servers.router.ports import RouterSettings
from servers.router.service import ModelRouter

ALICE, BOB = Caller("acme", "alice"), Caller("acme", "bob")
ELSEWHERE = Caller("other", "alice")
P = "handbook"


def pipeline(name: str = P, **spec) -> dict:
    return {
        "apiVersion": "astromesh/v1",
        "kind": "RAGPipeline",
        "metadata": {"name": name, "version": "1.0.0"},
        "spec": {"chunking": {"chunk_size": 200, "overlap": 40}, **spec},
    }


def document(name: str, text: str | bytes, **more) -> Document:
    return Document(name, text.encode() if isinstance(text, str) else text, **more)


def asks(text: str, **more) -> PassageQuery:
    return PassageQuery(more.pop("pipeline", P), text, **more)


@contextlib.asynccontextmanager
async def packaged_router(folder: Path) -> AsyncIterator[Router]:
    async with open_providers(folder) as pool:
        yield ModelRouter(RouterSettings(), pool, env={})


@contextlib.asynccontextmanager
async def in_process(rag: Rag) -> AsyncIterator[Rag]:
    yield rag


@contextlib.asynccontextmanager
async def ingesting(
    folder: Path, router: Router, work: Work, *pipelines: dict
) -> AsyncIterator[SpooledIngestions]:
    """Ingestions on disk."""
    async with at_work(folder, router, work, *pipelines) as (_, _, ingestions):
        yield ingestions


@contextlib.asynccontextmanager
async def taking_in(
    folder: Path, router: Router, work: Work, *pipelines: dict, most: int = 1 << 20
) -> AsyncIterator[tuple[Rag, SpooledIngestions]]:
    """The pipelines, and the ingestions into them."""
    async with at_work(folder, router, work, *pipelines, most=most) as (kept, _, ingestions):
        yield kept, ingestions


@contextlib.asynccontextmanager
async def at_work(
    folder: Path,
    router: Router,
    work: Work,
    *pipelines: dict,
    most: int = 1 << 20,
    open_store: OpenStore | None = None,
) -> AsyncIterator[tuple[RagPipelines, Worker, SpooledIngestions]]:
    """With who hands documents over to the pipelines."""
    async with (
        service(folder, router, *pipelines, open_store=open_store) as kept,
        open_database(folder / "ingestions.db", MIGRATIONS) as database,
    ):
        spool = SqliteSpool(database, most, most, time.time)
        async with Worker(spool, kept, work, time.time) as worker:
            yield kept, worker, SpooledIngestions(spool, worker, kept.declared, time.time, new_id)


@contextlib.asynccontextmanager
async def dialled(ingestions: Ingestions) -> AsyncIterator[Ingestions]:
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    # What is asked of ingestions asks nothing of the pipelines.
    servicer = RagServicer(None, ingestions)
    rag_service_pb2_grpc.add_RagServiceServicer_to_server(servicer, server)
    operations_pb2_grpc.add_OperationsServicer_to_server(OperationsServicer(ingestions), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RemoteIngestions(channel)
    await server.stop(None)


@contextlib.asynccontextmanager
async def over_the_wire(rag: Rag) -> AsyncIterator[Rag]:
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    rag_service_pb2_grpc.add_RagServiceServicer_to_server(RagServicer(rag, None), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RemoteRag(channel)
    await server.stop(None)


@contextlib.asynccontextmanager
async def service(
    folder: Path, router: Router, *pipelines: dict, open_store: OpenStore | None = None
) -> AsyncIterator[RagPipelines]:
    declared = declare(folder, *pipelines)
    async with Stores(open_store or store_at(folder / "state")) as stores:
        yield RagPipelines(
            declared, router, stores, readers.read, readers.media_type_of, lambda: 1_700_000_000.5
        )


def declare(folder: Path, *pipelines: dict) -> tuple[DeclaredPipeline, ...]:
    """Make these the files of the folder, and read them."""
    files = folder / "config" / "rag"
    files.mkdir(parents=True, exist_ok=True)
    for old in files.iterdir():
        old.unlink()
    for each in pipelines:
        path = files / f"{each['metadata']['name']}.rag.yaml"
        path.write_text(yaml.safe_dump(each, sort_keys=False))
    return read_pipelines(files, {}, lambda _: ())
