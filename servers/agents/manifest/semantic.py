"""spec.memory.semantic: what an agent remembers by its meaning."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from servers.agents.manifest.connection import Connection, Embeddings
from servers.domain.semantic import MemoryQuery, MemoryScope
from servers.kernel.fields import Count, Seconds, Share
from servers.kernel.manifest import Strict
from servers.kernel.vectors.embedding import EmbeddingModel
from servers.kernel.vectors.manifest import StoreConnection, VectorStore
from servers.kernel.vectors.stores import StorePlace

_OF_ITS_OWN: Final = ("embeddings", "dimension", "connection", "path")


class RememberPolicy(Strict):
    """What of a run is remembered once it has ended well."""

    policy: Literal["answers", "extract", "none"] = "answers"
    min_tokens: Count = 32
    max_facts: Annotated[Count, Field(le=50)] = 10
    duplicate_threshold: Annotated[Share, Field(gt=0)] | None = None


class SemanticMemory(Strict):
    """In a collection of runtime.yaml; with `backend`, in one that is the agent's alone."""

    backend: Literal["pgvector", "chroma", "qdrant", "faiss"] | None = None
    collection: str = ""
    similarity_threshold: Share = 0.3
    max_results: Annotated[Count, Field(le=100)] = 5
    scope: Literal["principal", "agent", "session"] = "principal"
    remember: RememberPolicy = RememberPolicy()
    ttl: Seconds | None = None
    embeddings: Embeddings = Embeddings()
    dimension: Annotated[Count, Field(le=16_000)] | None = None
    connection: Connection = Connection()
    path: str = ""

    @model_validator(mode="after")
    def _can_be_found(self) -> Self:
        if self.backend:
            self._store()
        elif said := [key for key in _OF_ITS_OWN if key in self.model_fields_set]:
            raise ValueError(
                f"{said[0]} is of a collection that is the agent's alone: say its backend, too, "
                "or name a collection of runtime.yaml and say it there"
            )
        return self

    @model_validator(mode="after")
    def _is_said(self) -> Self:
        """A section without keys is one all the same, also once it is written down."""
        if not self.model_fields_set:
            self.model_fields_set.add("scope")
        return self

    def _store(self) -> VectorStore:
        to = self.connection
        address = "dsn" if self.backend == "pgvector" else "url"
        return VectorStore(
            backend=self.backend or "faiss",
            collection=self.collection,
            path=self.path,
            connection=StoreConnection(
                host=to.host,
                port=to.port,
                database=to.database,
                user=to.user,
                password=to.password,
            ),
            **({address: to.url} if to.url else {}),
        )

    def name(self, agent: str) -> str:
        """What the memory service knows the collection by."""
        return f"agent:{agent}" if self.backend else self.collection or "default"

    def own_place(self, agent: str) -> StorePlace | None:
        return self._store().place(f"agent-{agent}"[:48]) if self.backend else None

    def own_model(self) -> EmbeddingModel:
        return EmbeddingModel(self.embeddings.candidates(), self.dimension)

    def query(self, agent: str) -> MemoryQuery:
        """What is looked for; the question comes with the run."""
        return MemoryQuery(
            "", self.max_results, self.similarity_threshold, collection=self.name(agent)
        )

    @property
    def whose(self) -> MemoryScope:
        return MemoryScope(self.scope)
