"""kind: RAGPipeline. How documents are cut, embedded, kept and found again."""

import re
from collections.abc import Iterator
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import Field, field_validator, model_validator

from servers.domain.chat import ModelRef
from servers.kernel.fields import Count, Flag, Number, Secret, Share
from servers.kernel.manifest import Manifest, Strict
from servers.kernel.paths import Wrong
from servers.kernel.spelling import Spelling
from servers.kernel.vectors.opening import HYBRID
from servers.rag.chunkers import SEPARATORS, Cutting
from servers.rag.ports import StorePlace

_COLLECTION = re.compile(r"[a-z][a-z0-9_-]{2,47}")
_LARGEST_CHUNK = 100_000
_Similarity = Annotated[Number, Field(ge=-1, le=1)]
_TopK = Annotated[Count, Field(le=1000)]


class Chunking(Strict):
    """Sizes count characters, or tokens of o200k_base (extra `tokens`)."""

    strategy: Literal["fixed", "recursive", "sentence", "semantic"] = "recursive"
    unit: Literal["characters", "tokens"] = "characters"
    chunk_size: Annotated[Count, Field(le=_LARGEST_CHUNK)] = 1000
    overlap: Annotated[int, Field(strict=True, ge=0)] | None = None
    separators: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)] = SEPARATORS
    similarity_threshold: Share = 0.5

    @model_validator(mode="after")
    def _moves_on(self) -> Self:
        if self.overlap is not None and self.overlap >= self.chunk_size:
            raise ValueError(
                f"overlap {self.overlap} is not smaller than chunk_size {self.chunk_size}: "
                "chunks would not move on"
            )
        return self

    def cutting(self) -> Cutting:
        overlap = self.chunk_size // 5 if self.overlap is None else self.overlap
        return Cutting(
            self.strategy, self.chunk_size, overlap, self.separators, self.similarity_threshold
        )


class Embedding(Strict):
    """Without a provider: the model that is in the mesh."""

    provider: str = ""
    model: str = ""
    endpoint: str = ""
    api_key_env: str = ""
    dimension: Annotated[Count, Field(le=16_000)] | None = None
    batch_size: Annotated[Count, Field(le=2048)] = 64

    def candidates(self) -> tuple[ModelRef, ...]:
        return _candidates(self)


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

    def place(self, pipeline: str) -> StorePlace:
        address = {"pgvector": self._dsn, "qdrant": self._url, "chroma": self._url}
        found = address[self.backend]() if self.backend in address else ""
        collection = self.collection or _as_collection(pipeline)
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


def _as_collection(pipeline: str) -> str:
    return pipeline[:48] if len(pipeline) >= 3 else f"rag-{pipeline}"


class Reranking(Strict):
    """Without a provider: the model that is in the mesh, by MaxSim. `top_k`: how many
    passages it reads."""

    enabled: Flag = True
    provider: str = ""
    model: str = ""
    endpoint: str = ""
    api_key_env: str = ""
    top_k: _TopK | None = None

    def candidates(self) -> tuple[ModelRef, ...]:
        return _candidates(self)


class Retrieval(Strict):
    """`similarity_threshold` is the least cosine. `hybrid` searches for words, too."""

    top_k: _TopK = 5
    similarity_threshold: _Similarity | None = None
    hybrid: Flag = False


class PipelineSpec(Strict):
    chunking: Chunking = Chunking()
    embeddings: Embedding = Embedding()
    vector_store: VectorStore = VectorStore()
    reranking: Reranking | None = None
    retrieval: Retrieval = Retrieval()


class RAGPipeline(Manifest):
    kind: Literal["RAGPipeline"]
    spec: PipelineSpec = PipelineSpec()

    @classmethod
    def respell(cls, spelling: Spelling) -> None:
        spelling.rename("spec.chunking", {"chunk_overlap": "overlap", "size": "chunk_size"})
        spelling.rename("spec.embeddings", {"dimensions": "dimension"})
        spelling.rename("spec.retrieval", {"max_results": "top_k"})
        spelling.words("spec.vector_store.backend", {"chromadb": "chroma"})
        spelling.words("spec.reranking.provider", {"cross_encoder": "sentence_transformers"})

    def inconsistencies(self) -> Iterator[Wrong]:
        store, hybrid = self.spec.vector_store, self.spec.retrieval.hybrid
        if hybrid and store.backend not in HYBRID:
            yield Wrong(
                ("spec", "retrieval", "hybrid"),
                f"the backend {store.backend!r} finds no words in this version; "
                f"use one of {', '.join(HYBRID)}, or remove the key",
            )

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def variables(self) -> frozenset[str]:
        """Environment variables that it names as keys."""
        rerank = self.spec.reranking
        named = {self.spec.embeddings.api_key_env, rerank.api_key_env if rerank else ""}
        return frozenset(named - {""})


def _candidates(said: Embedding | Reranking) -> tuple[ModelRef, ...]:
    if not said.provider:
        return ()
    return (ModelRef(said.provider, said.model, said.endpoint, said.api_key_env),)
