"""Finds passages: over-fetch, both searches together, threshold, rerank, then the best top_k or
those that differ (MMR)."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from servers.domain.caller import Account, Caller
from servers.domain.embeddings import Purpose, RerankRequest, Vector
from servers.domain.rag import Mmr, Passage, PassageQuery, Where
from servers.domain.services import Router
from servers.kernel.vectors.embedding import Embedder
from servers.kernel.vectors.ports import Found, Scope, VectorStore, check_where, is_storable, wrong
from servers.rag.diversity import Key, diverse
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
    if query.mmr is not None:
        _check_mmr(query.mmr)
    check_where(query.where)


def _check_mmr(mmr: Mmr) -> None:
    if not 0 <= mmr.lambda_mult <= 1:
        raise wrong("mmr.lambda_mult", f"{mmr.lambda_mult} is not from 0 to 1")
    if mmr.fetch_k is not None and not 1 <= mmr.fetch_k <= MOST_PASSAGES:
        raise wrong("mmr.fetch_k", f"{mmr.fetch_k} is not from 1 to {MOST_PASSAGES}")


async def retrieve(
    caller: Caller,
    pipeline: RAGPipeline,
    query: PassageQuery,
    store: VectorStore,
    embedder: Embedder,
    router: Router,
) -> list[Passage]:
    check_query(query)
    said = pipeline.spec.retrieval
    query = replace(query, mmr=query.mmr or (said.mmr.chosen() if said.mmr else None))
    wanted = query.top_k or said.top_k
    scope = Scope(caller.tenant, caller.principal)
    found = await _candidates(scope, query, wanted, said.hybrid, store, embedder)
    passages = found.passages
    if not passages and query.where:
        await _check_known(store, caller.tenant, query.where)
    least = query.similarity_threshold
    least = said.similarity_threshold if least is None else least
    passages = [each for each in passages if least is None or each.similarity >= least]
    ranked = await _reranked(caller, pipeline, query.text, passages, wanted, router)
    if query.mmr is None or found.asked is None or not ranked:
        return ranked[:wanted]
    among = ranked, found.vectors, found.asked
    return await asyncio.to_thread(diverse, *among, wanted, query.mmr.lambda_mult)


@dataclass(frozen=True, slots=True)
class _Candidates:
    passages: list[Passage] = field(default_factory=list)
    asked: "Vector | None" = None  # what the query was embedded as
    vectors: Mapping[Key, Vector] = field(default_factory=dict)  # of the passages, for MMR


async def _candidates(
    scope: Scope,
    query: PassageQuery,
    wanted: int,
    hybrid: bool,
    store: VectorStore,
    embedder: Embedder,
) -> _Candidates:
    """More than are wanted, as later steps take some away."""
    if await store.space() is None:
        return _Candidates()
    space, (asked,) = await embedder.embed([query.text], Purpose.QUERY)
    await store.prepare(space)  # refuses vectors of another model
    mmr = query.mmr
    limit = max(_AT_LEAST, wanted * _OVER_FETCH)
    if mmr:  # each is compared with each that was chosen
        limit = max(mmr.fetch_k or min(limit, MOST_PASSAGES), wanted)
    given = limit, query.where, mmr is not None
    if hybrid:
        dense, sparse = await asyncio.gather(
            store.search(scope, asked, *given), store.keywords(scope, query.text, *given)
        )
        passages = fused(dense, sparse)
    else:
        dense, sparse = await store.search(scope, asked, *given), []
        passages = [_passage(each, each.similarity) for each in dense]
    vectors = {
        (each.record.id, each.index): each.vector
        for each in (*dense, *sparse)
        if each.vector is not None
    }
    return _Candidates(passages, asked, vectors)


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
            raise wrong(f"filter.{key}", "no document has metadata of that name: remove it")


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
