"""Those whose ingestion and search are measured: our pipelines, and other people's."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import yaml

from bench.orders import Peer, peer
from bench.upstream import stores_peer
from servers.domain.caller import Caller
from servers.domain.embeddings import EmbedRequest, Purpose, RerankRequest
from servers.domain.rag import Document, IngestOutcome, Passage, PassageQuery
from servers.domain.services import Router
from servers.kernel.vectors.stores import Stores, store_at
from servers.rag.adapters import readers
from servers.rag.chunkers import Cutting, cut
from servers.rag.declared import read_pipelines
from servers.rag.service import RagPipelines
from servers.router.adapters.encoders.packaged import WINDOW, packaged
from tests.chroma_server import chroma_server_in
from tests.postgres_server import postgres_server

CALLER = Caller("default", "bench")
CHUNKING = {"chunk_size": 400, "overlap": 40}
MODES: dict[str, dict[str, Any]] = {
    "dense": {},
    "hybrid": {"retrieval": {"hybrid": True}},
    "reranked": {"reranking": {"top_k": 20}},
}


@dataclass(frozen=True, slots=True)
class Slice:
    """As much as is taken in at a time."""

    documents: Sequence[Document]
    chunks: Sequence[tuple[str, str]]  # an id and the text


@dataclass(frozen=True, slots=True)
class Took:
    seconds: float
    embedding: float = 0.0  # of them, those in which the model was asked


class Side(Protocol):
    async def ingest(self, of: Slice) -> Took: ...

    async def ask(self, queries: Sequence[str], callers: int) -> list[float]:
        """The seconds that each query took."""
        ...


class Watched:
    """A router whose clock runs while anybody waits for vectors."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._asked, self._since, self.seconds = 0, 0.0, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)

    async def embed(self, request: EmbedRequest) -> Any:
        if not self._asked:
            self._since = time.perf_counter()
        self._asked += 1
        try:
            return await self._router.embed(request)
        finally:
            self._asked -= 1
            if not self._asked:
                self.seconds += time.perf_counter() - self._since


class Remembering:
    """A router that asks its models once for the same: what is measured is all the rest."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._vectors: dict[str, Any] = {}
        self._rankings: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._answer: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._router, name)

    async def embed(self, request: EmbedRequest) -> Any:
        if request.purpose is not Purpose.DOCUMENT:
            return await self._router.embed(request)
        if new := tuple(text for text in request.texts if text not in self._vectors):
            self._answer = await self._router.embed(replace(request, texts=new))
            self._vectors.update(zip(new, self._answer.vectors, strict=True))
        vectors = tuple(self._vectors[text] for text in request.texts)
        return replace(self._answer, vectors=vectors)

    async def rerank(self, request: RerankRequest) -> Any:
        key = request.query, tuple(request.documents)
        if key not in self._rankings:
            self._rankings[key] = await self._router.rerank(request)
        return self._rankings[key]


@dataclass(frozen=True, slots=True)
class Alone:
    """The model, with nothing before and behind it."""

    router: Router

    async def ingest(self, of: Slice) -> Took:
        began = time.perf_counter()
        texts = [text for _, text in of.chunks]
        for at in range(0, len(texts), 64):
            await self.router.embed(EmbedRequest(tuple(texts[at : at + 64])))
        return Took(time.perf_counter() - began)

    async def ask(self, queries: Sequence[str], callers: int) -> list[float]:
        query = Purpose.QUERY  # so that it is asked again also where documents are remembered
        embed = self.router.embed
        return await asked(lambda text: embed(EmbedRequest((text,), (), query)), queries, callers)


@dataclass(frozen=True, slots=True)
class Ours:
    rag: RagPipelines
    router: Watched
    store: str

    async def ingest(self, of: Slice) -> Took:
        async def documents() -> AsyncIterator[Document]:
            for each in of.documents:
                yield each

        before, began = self.router.seconds, time.perf_counter()
        count = 0
        async for told in self.rag.ingest_all(CALLER, f"dense-{self.store}", documents()):
            assert told.outcome is IngestOutcome.CREATED, told
            count += told.chunks
        assert count == len(of.chunks), (count, len(of.chunks))
        return Took(time.perf_counter() - began, self.router.seconds - before)

    async def ask(self, queries: Sequence[str], callers: int) -> list[float]:
        return await asked(lambda text: self.find("dense", text, 10), queries, callers)

    async def find(self, mode: str, text: str, top_k: int) -> Sequence[Passage]:
        return await self.rag.query(CALLER, PassageQuery(f"{mode}-{self.store}", text, top_k))


@dataclass(frozen=True, slots=True)
class Theirs:
    peer: Peer
    name: str

    async def ingest(self, of: Slice) -> Took:
        return Took(await self.peer.do(deed="ingest", side=self.name, chunks=of.chunks))

    async def ask(self, queries: Sequence[str], callers: int) -> list[float]:
        order = {"deed": "ask", "side": self.name, "queries": queries, "callers": callers}
        found: list[float] = await self.peer.do(**order)
        return found


async def asked(ask: Any, queries: Sequence[str], callers: int) -> list[float]:
    """So many ask at the same moment, and again when all are answered: who asks counts from
    then, also where the others are in the way."""
    took: list[float] = []

    async def one(query: str, began: float) -> None:
        await ask(query)
        took.append(time.perf_counter() - began)

    for at in range(0, len(queries), callers):
        began = time.perf_counter()
        await asyncio.gather(*(one(query, began) for query in queries[at : at + callers]))
    return took


def sliced(documents: Sequence[Document], chunks: int, rounds: int) -> list[Slice]:
    """The first documents that have so many chunks, in slices of about as many."""
    cutting = Cutting("recursive", CHUNKING["chunk_size"], CHUNKING["overlap"])
    slices: list[Slice] = []
    taken: list[Document] = []
    pieces: list[tuple[str, str]] = []
    for document in documents:
        text = readers.read(document.content, readers.HTML).text
        cuts = enumerate(cut(text, cutting))
        pieces += [(f"{document.id}_{number}", each.text) for number, each in cuts]
        taken.append(document)
        if len(pieces) >= chunks / rounds:
            slices.append(Slice(taken, pieces))
            taken, pieces = [], []
            if len(slices) == rounds:
                break
    return slices


@asynccontextmanager
async def sides(router: Router, folder: Path) -> AsyncIterator[dict[str, Side]]:
    watched = Watched(router)
    async with AsyncExitStack() as stack:
        postgres = stack.enter_context(postgres_server())
        (folder / "chroma-server").mkdir()
        chroma = await asyncio.to_thread(
            stack.enter_context, chroma_server_in(folder / "chroma-server")
        )
        stores = {
            "faiss": {"backend": "faiss"},
            "pgvector": {"backend": "pgvector", "dsn": postgres.schema()},
            "qdrant": {"backend": "qdrant"},
            "chroma": {"backend": "chroma"},
            "chroma server": {"backend": "chroma", "url": chroma},
        }
        _write(folder / "rag", stores)
        declared = read_pipelines(folder / "rag", {}, lambda _: ())
        opened = await stack.enter_async_context(Stores(store_at(folder / "state")))
        rag = RagPipelines(
            declared, watched, opened, readers.read, readers.media_type_of, time.time
        )
        found: dict[str, Side] = {"the model alone": Alone(router)}
        found |= {store: Ours(rag, watched, store.replace(" ", "-")) for store in stores}
        yield found | await _peers(stack, folder, postgres.libpq())


def _write(folder: Path, stores: dict[str, dict[str, str]]) -> None:
    folder.mkdir()
    for store, said in stores.items():
        for mode, more in MODES.items():
            name = f"{mode}-{store}".replace(" ", "-")
            kept = {**said, "collection": "bench"}
            tree = {
                "apiVersion": "astromesh/v1",
                "kind": "RAGPipeline",
                "metadata": {"name": name},
                "spec": {"chunking": CHUNKING, "vector_store": kept, **more},
            }
            (folder / f"{name}.rag.yaml").write_text(yaml.safe_dump(tree))


async def _peers(stack: AsyncExitStack, folder: Path, dsn: str) -> dict[str, Side]:
    python = await asyncio.to_thread(stores_peer)
    if python is None:
        return {}
    theirs = await stack.enter_async_context(peer(python, "upstream_rag", folder))
    files = packaged()
    model = {"model": str(files.model), "tokenizer": str(files.tokenizer), "window": WINDOW}
    model["threads"] = len(os.sched_getaffinity(0))
    names = await theirs.do(deed="open", model=model, folder=str(folder), dsn=dsn)
    return {name: Theirs(theirs, name) for name in names}
