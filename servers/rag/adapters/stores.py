"""Opens the store that a pipeline names."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.ports import VectorStore
from servers.rag.ports import OpenStore, StorePlace


def store_at(folder: Path) -> OpenStore:
    """`folder` is where collections of this process are, unless a pipeline names another."""

    def opened(place: StorePlace) -> AbstractAsyncContextManager[VectorStore]:
        where = Path(place.path) if place.path else folder / place.backend
        collection = Collection(place.collection, where, place.address, place.api_key)
        return open_collection(place.backend, collection)

    return opened
