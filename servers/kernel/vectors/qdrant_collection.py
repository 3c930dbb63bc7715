"""A collection in Qdrant, of a server or in a folder, and what goes wrong with it in our words."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import httpx
from qdrant_client import models as q
from qdrant_client.http.exceptions import (
    ApiException,
    ResponseHandlingException,
    UnexpectedResponse,
)

from servers.kernel.errors import Unavailable
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.ports import Space
from servers.kernel.vectors.qdrant_points import WORDS

BATCH: Final = 512  # points in one request
_INDEXED = ("tenant", "record", "acl", "version")


class QdrantCollection:
    """`client` has the methods of `AsyncQdrantClient`; `indexed`: it can have indexes."""

    def __init__(self, client: Any, collection: Collection, indexed: bool) -> None:
        self.client, self.name, self._indexed = client, collection.name, indexed
        self._where = collection.at("Qdrant")
        self._space: Space | None = None
        self.has_words = False

    async def space(self) -> Space | None:
        if self._space is None:
            with _named(self._where):
                if await self.client.collection_exists(self.name):
                    found = await self.client.get_collection(self.name)
                    said = found.config.metadata or {}
                    self.has_words = WORDS in (found.config.params.sparse_vectors or {})
                    self._space = Space(said["model"], said["dimension"])
        return self._space

    async def make(self, space: Space) -> None:
        with _named(self._where):
            await self.client.create_collection(
                self.name,
                vectors_config=q.VectorParams(size=space.dimension, distance=q.Distance.COSINE),
                sparse_vectors_config={WORDS: q.SparseVectorParams(modifier=q.Modifier.IDF)},
                metadata={"model": space.model, "dimension": space.dimension},
            )
            if self._indexed:
                for key in _INDEXED:
                    await self._index(key, q.PayloadSchemaType.KEYWORD)
                await self._index("expires_at", q.PayloadSchemaType.FLOAT)

    async def _index(self, key: str, kind: q.PayloadSchemaType) -> None:
        await self.client.create_payload_index(self.name, key, field_schema=kind, wait=True)

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        with self.named():
            return await getattr(self.client, method)(self.name, *args, **kwargs)

    @contextmanager
    def named(self) -> Iterator[None]:
        """Whatever goes wrong with the collection."""
        with _named(self._where):
            try:
                yield
            except (UnexpectedResponse, ValueError) as error:
                if not _is_gone(error, self.name):
                    raise
                self._space = None  # the next one looks for it again
                raise Unavailable(
                    f"collection {self.name!r} is gone from {self._where}: "
                    "take the documents in again",
                    reason="STORE_UNAVAILABLE",
                ) from error


def _is_gone(error: Exception, name: str) -> bool:
    """A server says so by its status, the library in a folder in words."""
    if isinstance(error, UnexpectedResponse):
        return error.status_code == 404
    return str(error) == f"Collection {name} not found"


@contextmanager
def _named(where: str) -> Iterator[None]:
    try:
        yield
    except (ResponseHandlingException, httpx.HTTPError, OSError) as error:
        raise Unavailable(
            f"{where} can't be reached: {error}", reason="STORE_UNAVAILABLE", retry_after=1.0
        ) from error
    except ApiException as error:
        raise Unavailable(
            f"{where} refused: {str(error)[:300]}", reason="STORE_UNAVAILABLE"
        ) from error
