"""The backends by name, each imported only when a collection of it is opened."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from servers.kernel.registry import Registry
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.ports import VectorStore

BACKENDS = Registry(
    "astromesh.vectors",
    faiss="servers.kernel.vectors.faiss:open_at",
    pgvector="servers.kernel.vectors.pgvector:open_at",
    qdrant="servers.kernel.vectors.qdrant:open_at",
    chroma="servers.kernel.vectors.chroma:open_at",
)


@asynccontextmanager
async def open_collection(backend: str, collection: Collection) -> AsyncIterator[VectorStore]:
    """Raises NotReady (EXTRA_MISSING), Unavailable (STORE_UNAVAILABLE), and what a backend
    in a folder has to say of its files."""
    async with BACKENDS[backend](collection) as store:
        yield store
