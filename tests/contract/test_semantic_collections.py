"""Collections of memories, and what is found in them for a context or a person, each way alike."""

from dataclasses import replace

import pytest
import pytest_asyncio

from servers.domain.memory import Strategy
from servers.domain.semantic import Besides, MemoryQuery
from servers.kernel.errors import InvalidInput, NotReady
from servers.kernel.vectors.embedding import EmbeddingModel
from servers.kernel.vectors.stores import StorePlace
from servers.memory.collections import CollectionPlace
from tests.contract.memory_fixture import EXCHANGE, KEY
from tests.contract.semantic_fixture import (
    ADA,
    AGENT,
    BOAT,
    BOB,
    TEA,
    WAYS,
    asks,
    note,
    texts,
    where,
    wrong_field,
)
from tests.contract.semantic_world import memory, router, way

__all__ = ["memory", "router", "way"]
pytestmark = pytest.mark.asyncio(loop_scope="module")


class TestACollection:
    async def test_takes_no_vectors_of_another_model(self, way, router):
        place, reached = way
        async with place.memory(router, reached) as memory:
            await memory.semantic.remember(ADA, note(TEA))
        narrow = replace(CollectionPlace(place.place), model=EmbeddingModel(dimension=128))
        async with place.memory(router, reached, {"main": narrow}) as memory:
            for call in (
                memory.semantic.remember(ADA, note(BOAT)),
                memory.semantic.recall(ADA, asks("tea")),
                memory.semantic.check("main"),
            ):
                with pytest.raises((NotReady, InvalidInput)):
                    await call
            assert texts((await memory.semantic.memories(ADA, MemoryQuery())).memories) == [TEA]

    async def test_that_answers_passes_the_check(self, memory):
        await memory.check("main")
        await memory.check("default")

    async def test_that_is_away_does_not(self, request, tmp_path, router):
        away = CollectionPlace(StorePlace("qdrant", "away", "http://127.0.0.1:1"))
        place = where("faiss", request, tmp_path)
        async with place.memory(router, more={"away": away}) as memory:
            with pytest.raises(Exception, match=r"Qdrant at http://\S+:1 can't be") as caught:
                await memory.semantic.check("away")
        assert caught.value.reason == "STORE_UNAVAILABLE"


class TestAPrincipal:
    async def test_is_given_and_forgotten_with_his_memories(self, way, router):
        place, reached = way
        async with place.memory(router, reached) as memory:
            await memory.semantic.remember(ADA, note(TEA))
            await memory.semantic.remember(ADA, note(BOAT, scope=AGENT), "default")
            await memory.semantic.remember(BOB, note(TEA))
            first = await memory.export("acme", "ada", 1)
            rest = await memory.export("acme", "ada", 1, first.next_page_token)
            records = [*first.records, *rest.records]
            assert {(each.backend, each.memory.text) for each in records} == {
                ("main", TEA),
                ("default", BOAT),
            }
            assert rest.next_page_token == ""
            erased = await memory.erase("acme", "ada")
            assert (erased.turns, erased.memories) == (0, 2)
            assert (await memory.export("acme", "ada")).records == ()
            assert len((await memory.export("acme", "bob")).records) == 1


class TestAContext:
    """Of a conversation, and what else bears on the question."""

    @pytest_asyncio.fixture(loop_scope="module")
    async def talk(self, request, tmp_path, router):
        place = where("faiss", request, tmp_path)
        away = CollectionPlace(StorePlace("qdrant", "away", "http://127.0.0.1:1"))
        async with place.memory(router, WAYS["faiss, over the wire"], {"away": away}) as memory:
            await memory.append(KEY, EXCHANGE)
            await memory.semantic.remember(ADA, note(TEA))
            await memory.semantic.remember(BOB, note(BOAT))
            yield memory

    async def test_has_both_and_of_memories_those_of_who_asks(self, talk):
        besides = Besides("What does she drink?", "ada", MemoryQuery(similarity_threshold=0.0))
        context = await talk.context(KEY, Strategy(), besides=besides)
        assert len(context.messages) == 2
        assert texts(context.memories) == [TEA]
        assert context.memories[0].similarity > 0
        assert context.failures == ()

    async def test_has_the_conversation_where_the_collection_is_away(self, talk):
        besides = Besides("tea", "ada", MemoryQuery(collection="away"))
        context = await talk.context(KEY, Strategy(), besides=besides)
        assert len(context.messages) == 2
        (failure,) = context.failures
        assert (failure.source, failure.reason) == ("semantic", "STORE_UNAVAILABLE")

    async def test_can_do_without_the_conversation(self, talk):
        besides = Besides("tea", "ada", MemoryQuery())
        context = await talk.context(KEY, Strategy("none"), besides=besides)
        assert context.messages == ()
        assert texts(context.memories) == [TEA]

    async def test_without_a_query_says_so(self, talk):
        context = await talk.context(KEY, Strategy(), besides=Besides("", "ada", MemoryQuery()))
        assert context.failures[0].message == "query: it is empty"

    @pytest.mark.parametrize(
        ("field", "selection"),
        [
            ("semantic.top_k", MemoryQuery(top_k=0)),
            ("semantic.top_k", MemoryQuery(top_k=10**9)),
            ("semantic.similarity_threshold", MemoryQuery(similarity_threshold=float("nan"))),
            ("semantic.filter.k", MemoryQuery(where={"k": ()})),
            ("semantic.filter.k", MemoryQuery(where={"k": "a\0b"})),
            ("collection", MemoryQuery(collection="mian")),
        ],
    )
    async def test_that_nobody_could_give_is_refused(self, talk, field, selection):
        """Also where there is nothing to look for, as it is the caller's mistake."""
        for query in ("tea", ""):
            besides = Besides(query, "ada", selection)
            assert await wrong_field(talk.context(KEY, Strategy(), besides=besides)) == field
