"""What manifests say of where texts with vectors are kept, and of the model of the vectors."""

import re
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator

from servers.domain.chat import ModelRef
from servers.kernel.fields import Count, Secret
from servers.kernel.manifest import Strict
from servers.kernel.vectors.embedding import EmbeddingModel
from servers.kernel.vectors.stores import StorePlace

_COLLECTION = re.compile(r"[a-z][a-z0-9_-]{2,47}")


class Embedding(Strict):
    """Without a provider: the model that is in the mesh."""

    provider: str = ""
    model: str = ""
    endpoint: str = ""
    api_key_env: str = ""
    dimension: Annotated[Count, Field(le=16_000)] | None = None
    batch_size: Annotated[Count, Field(le=2048)] = 64

    def candidates(self) -> tuple[ModelRef, ...]:
        if not self.provider:
            return ()
        return (ModelRef(self.provider, self.model, self.endpoint, self.api_key_env),)

    def chosen(self) -> EmbeddingModel:
        return EmbeddingModel(self.candidates(), self.dimension, self.batch_size)


class StoreConnection(Strict):
    host: str = ""
    port: Annotated[Count, Field(le=65535)] | None = None
    database: str = ""
    user: str = ""
    password: Secret = ""


class VectorStore(Strict):
    """`path`: a folder, for what works in this process. Qdrant and Chroma work there where
    neither `url` nor `connection.host` is said."""

    backend: Literal["faiss", "pgvector", "qdrant", "chroma"] = "faiss"
    collection: str = ""
    path: str = ""
    url: Secret = ""
    dsn: Secret = ""
    api_key: Secret = ""
    connection: StoreConnection = StoreConnection()

    @field_validator("collection")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        if name and not _COLLECTION.fullmatch(name):
            raise ValueError(
                f"{name!r} is no name for a collection: a lower-case letter, then lower-case "
                "letters, digits, '_' or '-', 3 to 48 in all"
            )
        return name

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.backend == "pgvector" and not (self.dsn or self.connection.host):
            raise ValueError("the backend 'pgvector' needs a dsn, or connection.host")
        if self.backend != "pgvector" and self.dsn:
            raise ValueError(f"a dsn is for pgvector, not for {self.backend!r}: remove it")
        if self.backend == "faiss" and (self.url or self.connection.host):
            raise ValueError("faiss works in a folder: say path, or nothing")
        return self

    def place(self, otherwise: str) -> StorePlace:
        """`otherwise`: the collection, where none is named."""
        address = {"pgvector": self._dsn, "qdrant": self._url, "chroma": self._url}
        found = address[self.backend]() if self.backend in address else ""
        collection = self.collection or otherwise
        return StorePlace(self.backend, collection, found, self.path, self.api_key)

    def _dsn(self) -> str:
        if self.dsn:
            return self.dsn
        to = self.connection
        who = quote(to.user, safe="")
        who += f":{quote(to.password, safe='')}" if to.password else ""
        port = f":{to.port}" if to.port else ""
        return f"postgresql://{who}{'@' if who else ''}{to.host}{port}/{to.database}"

    def _url(self) -> str:
        if self.url or not self.connection.host:
            return self.url
        usual = {"qdrant": 6333, "chroma": 8000}[self.backend]
        return f"http://{self.connection.host}:{self.connection.port or usual}"
