"""Finds passages: over-fetch, both searches together, rerank, then threshold and top_k."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from servers.domain.caller import Account, Caller
from servers.domain.embeddings import Purpose, RerankRequest
from servers.domain.rag import Passage, PassageQuery, Where
from servers.domain.services import Router
from servers.kernel.vectors.embedding import Embedder
from servers.kernel.vectors.ports import Found, Scope, VectorStore, check_where, is_storable, wrong
from servers.rag.manifest import RAGPipeline

MOST_PASSAGES = 1000
_OVER_FETCH, _AT_LEAST = 4, 20
_RANK_OFFSET = 60  # of reciprocal rank fusion, as its authors have it (Cormack et al., 2009)
_LONGEST_QUERY = 32_768  # characters


def check_query(query: PassageQuery) -> None:
    """Raises InvalidInput that names the field."""
    if not query.text.strip():
        raise wrong("query", "say what is looked for: it is empty")
    if len(query.text) > _LONGEST_QUERY:
        raise wrong("query", f"longer than {_LONGEST_QUERY} characters")
    if not is_storable(query.text):
        raise wrong("query", "it holds NUL, or half a character: remove it")
    if query.top_k is not None and not 1 <= query.top_k <= MOST_PASSAGES:
        raise wrong("top_k", f"{query.top_k} is not from 1 to {MOST_PASSAGES}")
    threshold = query.similarity_threshold
    if threshold is not None and not -1 <= threshold <= 1:
        raise wrong("similarity_threshold", f"{threshold} is not from -1 to 1")
    check_where(query.where)


async def retrieve(
    caller: Caller,
    pipeline: RAGPipeline,
    query: PassageQuery,
    store: VectorStore,
    embedder: Embedder,
    router: Router,
) -> list[Passage]:
    check_query(query)
    scope = Scope(caller.tenant, caller.principal)
    wanted = query.top_k or pipeline.spec.retrieval.top_k
    passages = await _candidates(scope, pipeline, query, wanted, store, embedder)
    if not passages and query.where:
        await _check_known(store, caller.tenant, query.where)
    least = query.similarity_threshold
    least = pipeline.spec.retrieval.similarity_threshold if least is None else least
    passages = [each for each in passages if least is None or each.similarity >= least]
    ranked = await _reranked(caller, pipeline, query.text, passages, wanted, router)
    return ranked[:wanted]


async def _candidates(
    scope: Scope,
    pipeline: RAGPipeline,
    query: PassageQuery,
    wanted: int,
    store: VectorStore,
    embedder: Embedder,
) -> list[Passage]:
    """More than are wanted, as later steps take some away."""
    if await store.space() is None:
        return []
    space, vectors = await embedder.embed([query.text], Purpose.QUERY)
    await store.prepare(space)  # refuses vectors of another model
    limit = max(_AT_LEAST, wanted * _OVER_FETCH)
    if not pipeline.spec.retrieval.hybrid:
        found = await store.search(scope, vectors[0], limit, query.where)
        return [_passage(each, each.similarity) for each in found]
    dense, sparse = await asyncio.gather(
        store.search(scope, vectors[0], limit, query.where),
        store.keywords(scope, query.text, limit, query.where),
    )
    return fused(dense, sparse)


def fused(dense: Sequence[Found], sparse: Sequence[Found]) -> list[Passage]:
    """Reciprocal rank fusion: what both searches rank high comes first. What was found by its
    words alone has the similarity 0, as no vector was compared."""
    scores: dict[tuple[str, int], float] = {}
    found: dict[tuple[str, int], Found] = {}
    for ranked in (dense, sparse):
        for rank, each in enumerate(ranked, 1):
            key = (each.record.id, each.index)
            scores[key] = scores.get(key, 0.0) + 1 / (_RANK_OFFSET + rank)
            found.setdefault(key, each)
    best = sorted(scores, key=lambda key: -scores[key])  # stable: dense first
    return [_passage(found[key], scores[key]) for key in best]


async def _reranked(
    caller: Caller,
    pipeline: RAGPipeline,
    text: str,
    passages: list[Passage],
    wanted: int,
    router: Router,
) -> list[Passage]:
    said = pipeline.spec.reranking
    if said is None or not said.enabled or not passages:
        return passages
    read = passages[: max(said.top_k or MOST_PASSAGES, wanted)][:MOST_PASSAGES]
    account = Account(caller.tenant, caller.principal)
    texts = tuple(each.text for each in read)
    answer = await router.rerank(RerankRequest(text, texts, said.candidates(), None, account))
    return [replace(read[each.index], score=each.score) for each in answer.ranked]


async def _check_known(store: VectorStore, tenant: str, where: Where) -> None:
    for key in where:
        if not await store.knows(tenant, key):
            raise wrong(f"filter.{key}", "no document has metadata of that name")


def _passage(found: Found, score: float) -> Passage:
    record = found.record
    return Passage(
        record.id,
        record.title,
        record.uri,
        found.text,
        found.start,
        found.end,
        found.index,
        found.similarity,
        score,
        record.metadata,
    )
