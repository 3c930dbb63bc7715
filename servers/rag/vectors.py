"""Whether the vectors of a pipeline are those that its store keeps."""

from servers.domain.embeddings import Purpose
from servers.kernel.vectors.embedding import Embedder
from servers.kernel.vectors.ports import Space, VectorStore, check_space
from servers.rag.manifest import RAGPipeline

_ANY = "a"  # any text shows which model answers, and how long its vectors are


def same_vectors(one: RAGPipeline, other: RAGPipeline) -> bool:
    """Whether both make the same vectors, for the same store."""
    chosen, before = one.spec.embeddings.chosen(), other.spec.embeddings.chosen()
    alike = (chosen.candidates, chosen.dimension) == (before.candidates, before.dimension)
    return alike and one.place == other.place


async def check_vectors(pipeline: RAGPipeline, store: VectorStore, embedder: Embedder) -> None:
    """Raises NotReady (EMBEDDING_MISMATCH), and what keeps the store or the model from saying."""
    kept = await store.space()
    if kept is None:
        return
    where = f"the store of pipeline {pipeline.name!r}"
    wanted = pipeline.spec.embeddings.dimension or kept.dimension
    check_space(kept, Space(kept.model, wanted), where)  # which needs no model to be there
    space, _ = await embedder.embed([_ANY], Purpose.QUERY)
    check_space(kept, space, where)
