"""Search in Chroma, which is told the ids of the points that are in scope.

For a filter it reads all metadata that it has. What is in scope is known here (`known`), so that it
gets names instead. A point that is gone by then fails the search, which is made again, and so does
one that somebody has changed in its place: what it says itself is asked before it is shown.

Its graph (HNSW) is made again after a crash, from what is in its SQLite, and does not lead to each
and every point once points have come and gone. So where little is in scope, or the graph leads to
less than was wanted, what it does not lead to is compared one by one.

Its sparse vectors work in its cloud only, so that words are weighed here.
"""

import asyncio
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

import numpy as np

from servers.domain.embeddings import Vector
from servers.kernel.vectors.chroma_client import PointGone
from servers.kernel.vectors.chroma_collection import BATCH, ChromaCollection
from servers.kernel.vectors.chroma_points import found_from, id_of, ids_of, weights
from servers.kernel.vectors.known import Tenant
from servers.kernel.vectors.payloads import Head
from servers.kernel.vectors.ports import Found
from servers.kernel.vectors.word_table import WordTable

T = TypeVar("T")
InScope: TypeAlias = Callable[[Mapping[str, Any]], bool]  # what a point says of itself


class ChromaSearch:
    """Raises PointGone where a point isn't there any more. `exact`: points in scope that are
    all compared."""

    def __init__(self, collection: ChromaCollection, exact: int) -> None:
        self._collection, self._exact = collection, exact
        self._reading = asyncio.Lock()  # of words: one call at a time, and each text once

    async def near(
        self,
        seen: Sequence[Head],
        in_scope: InScope,
        vector: Vector,
        limit: int,
        with_vectors: bool,
    ) -> list[Found]:
        ids = ids_of(seen)
        near = await self._nearest(vector, limit, ids) if ids else {}
        best = sorted(near, key=lambda name: (-near[name], name))[:limit]
        scored = [(name, near[name]) for name in best]
        return await self._found(scored, in_scope, with_vectors)

    async def _nearest(self, vector: Vector, limit: int, ids: list[str]) -> dict[str, float]:
        """Similarities by id, of the best ones at least."""
        if len(ids) > self._exact:
            near = await self._by_graph(vector, limit, ids)
            if len(near) == limit:
                return near
        near = await self._by_graph(vector, len(ids), ids)
        return near | await self._one_by_one(vector, [each for each in ids if each not in near])

    async def _by_graph(self, vector: Vector, limit: int, ids: list[str]) -> dict[str, float]:
        """Those that the graph leads to: where points came and went, or it was made again after
        a crash, these are not all."""
        answer = await self._collection.call(
            "query",
            query_embeddings=[list(vector)],
            n_results=limit,
            ids=ids,
            include=["distances"],
        )
        pairs = zip(answer["ids"][0], answer["distances"][0], strict=True)
        return {name: 1 - distance for name, distance in pairs}

    async def _one_by_one(self, vector: Vector, ids: list[str]) -> dict[str, float]:
        asked = np.frombuffer(vector, np.float32)
        kept = await self._vectors(ids)
        return {name: float(np.dot(each, asked)) for name, each in kept.items()}

    async def _vectors(self, ids: list[str]) -> dict[str, Any]:
        return {name: each for name, each in await self._get(ids, "embeddings")}

    async def _found(
        self, best: Sequence[tuple[str, float]], in_scope: InScope, with_vectors: bool
    ) -> list[Found]:
        ids = [name for name, _ in best]
        rows = await self._get(ids, "metadatas", "documents")
        if not all(in_scope(said) for _, said, _ in rows):
            raise PointGone
        kept = {name: (said, text) for name, said, text in rows}
        vectors = await self._vectors(ids) if with_vectors else {}
        found: list[Found] = []
        for name, score in best:
            vector = array("f", vectors[name]) if with_vectors else None
            found.append(found_from(*kept[name], score, vector))
        return found

    async def _get(self, ids: Sequence[str], *include: str) -> list[tuple[Any, ...]]:
        """Ids, and what is included of each; in any order."""
        rows = await self._there(ids, *include)
        if len(rows) < len(ids):
            raise PointGone
        return rows

    async def _there(self, ids: Sequence[str], *include: str) -> list[tuple[Any, ...]]:
        """The same of those that are there."""
        rows: list[tuple[Any, ...]] = []
        for batch in (list(ids[at : at + BATCH]) for at in range(0, len(ids), BATCH)):
            answer = await self._collection.call("get", ids=batch, include=list(include))
            rows += zip(*(answer[each] for each in ("ids", *include)), strict=True)
        return rows

    async def lacking(self, seen: Sequence[Head], in_scope: InScope) -> set[str]:
        """The versions that lack a point, or have one that is not in scope."""
        rows = await self._there(ids_of(seen), "metadatas")
        there = {name for name, said in rows if in_scope(said)}
        return {head[1] for head in seen if not there.issuperset(ids_of([head]))}

    async def saying(
        self,
        tenant: Tenant,
        seen: Sequence[Head],
        in_scope: InScope,
        asked: Sequence[str],
        limit: int,
        with_vectors: bool,
    ) -> list[Found]:
        """Those that have any of the words, best by BM25 first."""
        async with self._reading:
            await self._read_words(tenant, seen)
            versions = [version for _, version in seen]
            best = await _to_its_end(lambda: tenant.words.best(versions, asked, limit))
        scored = [(id_of(*place), score) for place, score in best]
        return await self._found(scored, in_scope, with_vectors)

    async def _read_words(self, tenant: Tenant, seen: Sequence[Head]) -> None:
        tenant.words.keep(tenant.heads.versions())
        lacking = set(tenant.words.lacking(version for _, version in seen))
        heads = [each for each in seen if each[1] in lacking]
        documents = dict(await self._get(ids_of(heads), "documents"))
        await _to_its_end(lambda: _add(tenant.words, heads, documents))


async def _to_its_end(work: Callable[[], T]) -> T:
    """In a thread. Who leaves meanwhile has waited for it: the table takes one call at a time."""
    working = asyncio.create_task(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    finally:
        await asyncio.wait([working])


def _add(table: WordTable, heads: Sequence[Head], documents: dict[str, str]) -> None:
    for record, version in heads:
        said = [weights(documents[id_of(version, index)]) for index in range(record.points)]
        table.add(version, said)
