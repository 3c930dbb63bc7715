"""Stores of vectors, each real, as tests open them again and again."""

from array import array
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from math import sqrt

from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.faiss import open_faiss
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.ports import Point, Record, Scope, Space, VectorStore

SPACE = Space("test-model", 4)
ACME = Scope("acme")
Opening = Callable[[], AbstractAsyncContextManager[VectorStore]]


@dataclass(frozen=True)
class Backend:
    """A collection of its own, in a backend."""

    name: str
    collection: Collection

    @asynccontextmanager
    async def open(self, name: str = "") -> AsyncIterator[VectorStore]:
        named = self.collection
        if name:
            named = Collection(name, named.folder, named.address)
        if self.name in ("array", "device", "gpu"):
            from tests.contract.index_fixture import INDEXES  # needs FAISS

            index = INDEXES[self.name]
            async with open_faiss(named.folder, named.name, new_index=index) as store:
                yield store
            return
        if self.name == "emulated":
            async with emulated_server(named) as store:
                yield store
            return
        async with open_collection(self.name, named) as store:
            yield store


@asynccontextmanager
async def emulated_server(collection: Collection) -> AsyncIterator[VectorStore]:
    """What asks a Qdrant server, over what Qdrant's own library makes of its filters."""
    from servers.kernel.vectors.qdrant import QdrantStore  # needs its extra
    from servers.kernel.vectors.qdrant_library import Library

    library = Library(collection.folder / collection.name)
    try:
        yield QdrantStore(library, collection, indexed=False)
    finally:
        await library.close()


def unit(*numbers: float) -> "array[float]":
    length = sqrt(sum(n * n for n in numbers)) or 1.0
    return array("f", [n / length for n in numbers])


EAST, NORTH, UP = unit(1, 0, 0, 0), unit(0, 1, 0, 0), unit(0, 0, 1, 0)


def record(name: str, **more) -> Record:
    return Record(name, **{"title": name.title(), "content_hash": "h1", "updated_at": 1.5, **more})


def points(*vectors, text: str = "text") -> list[Point]:
    return [
        Point(index, f"{text} {index}", index * 10, index * 10 + 6, vector)
        for index, vector in enumerate(vectors)
    ]
