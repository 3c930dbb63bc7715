"""Passages that repeat others make room, in process and over the wire alike."""

import contextlib

import pytest

from servers.domain.rag import Mmr
from servers.kernel.vectors.opening import BACKENDS
from tests.contract.rag_fixture import ALICE, P, document, pipeline, service
from tests.contract.rag_world import found, model_folder, rag, reached, router

__all__ = ["model_folder", "rag", "reached", "router"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestDiversity:
    """Maximal marginal relevance: three that say the same, and one that says something else."""

    SAME = tuple(f"Everybody has thirty days of holiday a year{end}" for end in (".", "!", ";"))
    OTHER = "Who wants to go on holiday asks the lead first."
    ASKED = "How many days of holiday are there in a year?"

    @pytest.fixture(params=["dense", "hybrid", "reranked"])
    def said(self, request):
        return {
            "retrieval": {"top_k": 2, "hybrid": request.param == "hybrid"},
            "reranking": {"enabled": request.param == "reranked"},
        }

    @contextlib.asynccontextmanager
    async def filled(self, folder, router, said, **more):
        retrieval = said["retrieval"] | more
        async with service(folder, router, pipeline(**said | {"retrieval": retrieval})) as rag:
            for number, text in enumerate(self.SAME):
                await rag.ingest(ALICE, P, document(f"same-{number}", text))
            await rag.ingest(ALICE, P, document("other", self.OTHER))
            yield rag

    async def test_lets_what_repeats_make_room(self, tmp_path, router, said):
        async with self.filled(tmp_path, router, said) as rag:
            assert "other" not in await found(rag, self.ASKED)
        async with self.filled(tmp_path, router, said, mmr={}) as rag:
            first, second = await found(rag, self.ASKED)
            assert (first[:5], second) == ("same-", "other")

    async def test_changes_nothing_where_relevance_is_all_that_counts(self, tmp_path, router, said):
        async with self.filled(tmp_path, router, said) as rag:
            plain = await found(rag, self.ASKED, top_k=3)
        async with self.filled(tmp_path, router, said, mmr={"lambda_mult": 1}) as rag:
            assert await found(rag, self.ASKED, top_k=3) == plain

    async def test_is_what_a_query_asks_for_or_the_pipeline(self, reached, tmp_path, router):
        plain = {"retrieval": {"top_k": 2}}
        async with self.filled(tmp_path, router, plain) as kept, reached(kept) as rag:
            assert "other" in await found(rag, self.ASKED, mmr=Mmr())
            assert "other" not in await found(rag, self.ASKED, mmr=Mmr(1.0))
            assert "other" not in await found(rag, self.ASKED, mmr=Mmr(fetch_k=2))

    @pytest.mark.parametrize("backend", list(BACKENDS))
    async def test_is_had_on_every_store(self, request, tmp_path, router, backend):
        store = {"backend": backend}
        if backend == "pgvector":
            store["dsn"] = request.getfixturevalue("postgres").schema()
        said = {"vector_store": store, "retrieval": {"top_k": 2, "hybrid": True}}
        async with self.filled(tmp_path, router, said, mmr={}) as rag:
            first, second = await found(rag, self.ASKED)
            assert (first[:5], second) == ("same-", "other")
