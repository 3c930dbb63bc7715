"""kind: RAGPipeline. How documents are cut, embedded, kept and found again."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from servers.domain.chat import ModelRef
from servers.domain.rag import Mmr
from servers.kernel.fields import Count, Flag, Number, Share
from servers.kernel.manifest import Manifest, Strict
from servers.kernel.spelling import Spelling
from servers.kernel.vectors.manifest import Embedding, VectorStore
from servers.kernel.vectors.stores import StorePlace
from servers.rag.chunkers import SEPARATORS, Cutting

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
        if not self.provider:
            return ()
        return (ModelRef(self.provider, self.model, self.endpoint, self.api_key_env),)


class MaximalMarginalRelevance(Strict):
    """The names are LangChain's."""

    lambda_mult: Share = 0.5
    fetch_k: _TopK | None = None

    def chosen(self) -> Mmr:
        return Mmr(self.lambda_mult, self.fetch_k)


class Retrieval(Strict):
    """`similarity_threshold` is the least cosine. `hybrid` searches for words, too. With `mmr`
    passages that repeat others make room."""

    top_k: _TopK = 5
    similarity_threshold: _Similarity | None = None
    hybrid: Flag = False
    mmr: MaximalMarginalRelevance | None = None


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
        spelling.rename(
            "spec.retrieval.mmr",
            {"lambda": "lambda_mult", "candidates": "fetch_k", "candidates_limit": "fetch_k"},
        )
        spelling.words("spec.vector_store.backend", {"chromadb": "chroma"})
        spelling.words("spec.reranking.provider", {"cross_encoder": "sentence_transformers"})

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def place(self) -> StorePlace:
        return self.spec.vector_store.place(_as_collection(self.name))

    @property
    def variables(self) -> frozenset[str]:
        """Environment variables that it names as keys."""
        rerank = self.spec.reranking
        named = {self.spec.embeddings.api_key_env, rerank.api_key_env if rerank else ""}
        return frozenset(named - {""})
