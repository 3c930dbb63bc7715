"""What `SemanticMemory` promises, over each backend, in process and over the wire."""

import asyncio
from dataclasses import replace

import pytest
import pytest_asyncio

from servers.domain.semantic import Forgetting, MemoryQuery, Origin, Reader, RememberOutcome
from servers.kernel.errors import InvalidInput, NotFound
from servers.memory.memories import MOST_PARTS
from tests.contract.semantic_fixture import (
    ADA,
    AGENT,
    BOAT,
    BOB,
    SESSION,
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
CREATED, MERGED = RememberOutcome.CREATED, RememberOutcome.MERGED
ODD = 'Robert\'); DROP TABLE point;-- "$ne" {"$gt": ""} \'\''


@pytest_asyncio.fixture(loop_scope="module")
async def plain(request, tmp_path, router):
    """What no backend decides is asked once, over the wire."""
    place, reached = where("faiss", request, tmp_path), WAYS["faiss, over the wire"]
    async with place.memory(router, reached) as memory:
        yield memory.semantic


class TestRemembering:
    async def test_gives_what_is_kept_then(self, memory, way):
        said = note(TEA, metadata={"topic": "tea", "n": 2, "sure": True}, run_id="r1", kind="fact")
        kept, outcome = await memory.remember(ADA, said)
        at = way[0].clock.now
        assert outcome is CREATED
        assert (kept.text, kept.kind, kept.agent, kept.collection) == (
            TEA,
            "fact",
            "helper",
            "main",
        )
        assert kept.metadata == {"topic": "tea", "n": 2, "sure": True}
        assert kept.origins == (Origin("ada", "s1", "r1", at),)
        assert (kept.created_at, kept.updated_at) == (at, at)
        assert (await memory.memories(ADA, MemoryQuery())).memories == (kept,)

    async def test_of_the_same_text_again_keeps_one_with_two_origins(self, memory, way):
        await memory.remember(ADA, note(TEA, run_id="r1", metadata={"a": 1}))
        way[0].clock.now += 5
        again = note(f"  {TEA.upper()} ", run_id="r2", metadata={"b": 2})
        kept, outcome = await memory.remember(ADA, again)
        assert outcome is MERGED
        assert [each.run_id for each in kept.origins] == ["r1", "r2"]
        assert kept.updated_at - kept.created_at == 5
        assert kept.metadata == {"a": 1, "b": 2}
        assert len((await memory.memories(ADA, MemoryQuery())).memories) == 1

    async def test_of_nearly_the_same_keeps_what_was_said_last(self, memory):
        await memory.remember(ADA, note(TEA))
        later = "The user drinks green tea in the mornings."
        kept, outcome = await memory.remember(ADA, note(later, duplicate_threshold=0.9))
        assert (outcome, kept.text) == (MERGED, later)
        assert texts((await memory.memories(ADA, MemoryQuery())).memories) == [later]

    async def test_of_something_else_keeps_both(self, memory):
        await memory.remember(ADA, note(TEA))
        assert (await memory.remember(ADA, note(BOAT)))[1] is CREATED
        assert len((await memory.memories(ADA, MemoryQuery())).memories) == 2

    async def test_of_one_text_at_once_keeps_one_with_all_origins(self, memory):
        said = [note(TEA, run_id=f"r{n}") for n in range(8)]
        outcomes = await asyncio.gather(*(memory.remember(ADA, each) for each in said))
        assert sorted(outcome.value for _, outcome in outcomes) == ["created"] + ["merged"] * 7
        (kept,) = (await memory.memories(ADA, MemoryQuery())).memories
        assert {each.run_id for each in kept.origins} == {f"r{n}" for n in range(8)}

    async def test_of_the_same_run_again_changes_nothing(self, memory):
        first, _ = await memory.remember(ADA, note(TEA, run_id="r1"))
        again, outcome = await memory.remember(ADA, note(TEA, run_id="r1"))
        assert outcome is RememberOutcome.UNCHANGED
        assert again == first

    async def test_survives_the_process(self, way, router):
        place, reached = way
        async with place.memory(router, reached) as memory:
            kept, _ = await memory.semantic.remember(ADA, note(TEA))
        async with place.memory(router, reached) as memory:
            assert (await memory.semantic.memories(ADA, MemoryQuery())).memories == (kept,)
            assert texts(await memory.semantic.recall(ADA, asks("tea"))) == [TEA]

    async def test_with_threshold_1_takes_only_the_same_text_for_the_same(self, plain):
        await plain.remember(ADA, note(TEA))
        near = note(TEA.replace(".", "!"), duplicate_threshold=1)
        assert (await plain.remember(ADA, near))[1] is CREATED

    async def test_of_what_has_no_room_for_him_adds_no_part_of_his(self, plain):
        crowd = [Reader("acme", "helper", f"p{n}", f"c{n}") for n in range(MOST_PARTS // 2)]
        said = note(TEA, scope=AGENT)
        await asyncio.gather(*(plain.remember(each, said) for each in crowd))
        kept, outcome = await plain.remember(ADA, said)
        assert outcome is RememberOutcome.UNCHANGED
        assert "ada" not in {each.principal for each in kept.origins}
        corrected = note("The user drinks green tea in the mornings.", scope=AGENT)
        corrected = replace(corrected, duplicate_threshold=0.9)
        assert (await plain.remember(ADA, corrected))[1] is CREATED
        assert (await plain.remember(crowd[0], said))[1] is MERGED
        assert (await plain.forget(ADA, Forgetting(session="s1"))) == 1
        elsewhere = replace(ADA, session="")
        assert texts((await plain.memories(elsewhere, MemoryQuery())).memories) == [TEA]

    async def test_keeps_a_text_whose_id_has_gone_to_another(self, plain):
        """After a correction a memory has the id of what it said before."""
        await plain.remember(ADA, note(TEA))
        await plain.remember(ADA, note(BOAT, duplicate_threshold=0.0001))
        assert (await plain.remember(ADA, note(TEA)))[1] is CREATED
        assert sorted(texts((await plain.memories(ADA, MemoryQuery())).memories)) == [BOAT, TEA]


class TestRecalling:
    @pytest_asyncio.fixture(loop_scope="module", autouse=True)
    async def kept(self, memory):
        await memory.remember(ADA, note(TEA, metadata={"lang": "en", "n": 1, ODD: ODD}))
        await memory.remember(ADA, note(BOAT, metadata={"lang": "en", "n": 2}))

    async def test_gives_the_most_similar_first(self, memory):
        found = await memory.recall(ADA, asks("What does she drink for breakfast?"))
        assert texts(found) == [TEA, BOAT]
        assert 1 > found[0].similarity > found[1].similarity

    async def test_gives_at_most_top_k(self, memory):
        assert texts(await memory.recall(ADA, asks("Where is the ship?", top_k=1))) == [BOAT]

    async def test_gives_nothing_below_the_threshold(self, memory):
        found = await memory.recall(ADA, asks(TEA, similarity_threshold=0.9))
        assert texts(found) == [TEA]
        assert await memory.recall(ADA, asks("taxes", similarity_threshold=0.9)) == ()

    async def test_filters_by_metadata_whatever_its_key(self, memory):
        assert texts(await memory.recall(ADA, asks("?", where={"n": 2, "lang": "en"}))) == [BOAT]
        assert len(await memory.recall(ADA, asks("?", where={"n": (1, 2)}))) == 2
        assert texts(await memory.recall(ADA, asks("?", where={ODD: ODD}))) == [TEA]
        assert await memory.recall(ADA, asks("?", where={"lang": "de"})) == ()

    async def test_refuses_a_filter_that_no_memory_could_fit(self, memory):
        # Those that the service keeps for itself are not there for others, either.
        for key in ("langauge", "seen_by", "agent", "by:ada"):
            assert await wrong_field(memory.recall(ADA, asks("?", where={key: "en"}))) == (
                f"filter.{key}"
            )


class TestWhoFinds:
    async def found(self, memory, reader) -> bool:
        """Whether he comes across it, whichever way he tries."""
        seen = bool(await memory.recall(reader, asks("tea")))
        page = await memory.memories(replace(reader, session=""), MemoryQuery())
        if not reader.session:
            assert seen == bool(page.memories)
        return seen

    async def test_his_memory_finds_he_alone_in_any_session(self, memory):
        await memory.remember(ADA, note(TEA))
        assert await self.found(memory, replace(ADA, session="s2"))
        assert not await self.found(memory, BOB)
        assert not await self.found(memory, replace(ADA, principal="", session=""))
        assert not await self.found(memory, replace(ADA, agent="other"))
        assert not await self.found(memory, replace(ADA, tenant="elsewhere"))

    async def test_the_agents_memory_everybody_finds_who_talks_with_it(self, memory):
        await memory.remember(ADA, note(TEA, scope=AGENT))
        assert await self.found(memory, BOB)
        assert not await self.found(memory, replace(BOB, agent="other"))
        assert not await self.found(memory, replace(BOB, tenant="elsewhere"))

    async def test_the_sessions_memory_he_finds_there_alone(self, memory):
        await memory.remember(ADA, note(TEA, scope=SESSION))
        assert await self.found(memory, ADA)
        assert not await self.found(memory, replace(ADA, session="s2"))
        assert not await self.found(memory, replace(ADA, session=""))
        assert not await self.found(memory, BOB)

    async def test_the_same_text_of_two_is_two_memories(self, memory):
        await memory.remember(ADA, note(TEA))
        assert (await memory.remember(BOB, note(TEA)))[1] is CREATED
        assert len(await memory.recall(BOB, asks("tea"))) == 1

    async def test_nobody_known_is_not_everybody(self, plain):
        await plain.remember(Reader("acme", "helper"), note(TEA))
        assert not await self.found(plain, ADA)

    async def test_another_agents_collection_is_not_asked(self, plain):
        other = Reader("acme", "other", "ada")
        kept, _ = await plain.remember(other, note(TEA))
        assert kept.collection == "default"
        assert (await plain.memories(other, MemoryQuery(collection="main"))).memories == ()


class TestForgetting:
    async def test_of_one_by_its_id(self, memory):
        kept, _ = await memory.remember(ADA, note(TEA))
        await memory.remember(ADA, note(BOAT))
        assert await memory.forget(ADA, Forgetting(id=kept.id)) == 1
        assert texts(await memory.recall(ADA, asks("tea"))) == [BOAT]

    async def test_by_its_id_of_one_that_a_session_alone_finds(self, memory):
        kept, _ = await memory.remember(ADA, note(TEA, scope=SESSION))
        with pytest.raises(NotFound):
            await memory.forget(replace(BOB, session="s1"), Forgetting(id=kept.id))
        assert await memory.forget(replace(ADA, session=""), Forgetting(id=kept.id)) == 1
        assert await memory.recall(ADA, asks("tea")) == ()

    async def test_of_what_somebody_else_has_is_refused(self, memory):
        kept, _ = await memory.remember(ADA, note(TEA))
        for reader in (BOB, replace(ADA, agent="other"), replace(ADA, tenant="elsewhere")):
            with pytest.raises(NotFound) as caught:
                await memory.forget(reader, Forgetting(id=kept.id), "main")
            assert caught.value.reason == "MEMORY_NOT_FOUND"
            assert await memory.forget(reader, Forgetting(all=True), "main") == 0
        assert len(await memory.recall(ADA, asks("tea"))) == 1

    async def test_of_a_session_leaves_the_others(self, memory):
        await memory.remember(ADA, note(TEA, scope=SESSION))
        await memory.remember(replace(ADA, session="s2"), note(BOAT))
        assert await memory.forget(ADA, Forgetting(session="s1")) == 1
        assert texts(await memory.recall(ADA, asks("tea"))) == [BOAT]

    async def test_by_metadata(self, memory):
        await memory.remember(ADA, note(TEA, metadata={"topic": "tea"}))
        await memory.remember(ADA, note(BOAT, metadata={"topic": "boat"}))
        assert await memory.forget(ADA, Forgetting(where={"topic": "tea"})) == 1
        assert texts(await memory.recall(ADA, asks("tea"))) == [BOAT]

    async def test_says_one_thing(self, plain):
        assert await wrong_field(plain.forget(ADA, Forgetting())) == "id"
        assert await wrong_field(plain.forget(ADA, Forgetting(id="x", all=True))) == "id"


class TestListing:
    async def test_comes_in_pages(self, memory):
        for n in range(5):
            await memory.remember(ADA, note(f"Number {n} is odd.", duplicate_threshold=1))
        seen, token = [], ""
        while True:
            page = await memory.memories(ADA, MemoryQuery(), 2, token)
            seen += texts(page.memories)
            if not (token := page.next_page_token):
                break
        assert sorted(seen) == [f"Number {n} is odd." for n in range(5)]

    async def test_is_of_a_session_and_of_metadata(self, memory):
        await memory.remember(ADA, note(TEA, metadata={"x": 1}))
        await memory.remember(replace(ADA, session="s2"), note(BOAT, metadata={"x": 2}))
        assert texts((await memory.memories(ADA, MemoryQuery())).memories) == [TEA]
        everywhere = replace(ADA, session="")
        found = await memory.memories(everywhere, MemoryQuery(where={"x": 2}))
        assert texts(found.memories) == [BOAT]


class TestBadInput:
    @pytest.mark.parametrize(
        ("field", "said"),
        [
            ("text", note("  \n")),
            ("text", note("x" * 8001)),
            ("text", note("a\0b")),
            ("text", note("a\ud800b")),
            ("metadata.k", note("x", metadata={"k": "a\0b"})),
            ("metadata.k", note("x", metadata={"k": "v" * 1001})),
            ("metadata.k", note("x", metadata={"k": float("nan")})),
            ("metadata.", note("x", metadata={"": "v"})),
            ("metadata", note("x", metadata={str(n): n for n in range(33)})),
            ("kind", note("x", kind="k" * 257)),
            ("duplicate_threshold", note("x", duplicate_threshold=1.5)),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    async def test_writes_nothing(self, plain, field, said):
        assert await wrong_field(plain.remember(ADA, said)) == field
        assert (await plain.memories(ADA, MemoryQuery())).memories == ()

    @pytest.mark.parametrize(
        ("field", "query"),
        [
            ("query", asks("")),
            ("query", asks("a\0b")),
            ("top_k", asks("x", top_k=0)),
            ("top_k", asks("x", top_k=10**9)),
            ("similarity_threshold", asks("x", similarity_threshold=1.01)),
            ("filter.k", asks("x", where={"k": ()})),
        ],
    )
    async def test_finds_nothing(self, plain, field, query):
        assert await wrong_field(plain.recall(ADA, query)) == field

    async def test_names_the_collections_there_are(self, plain):
        for call in (
            plain.remember(ADA, note("x"), "mian"),
            plain.recall(ADA, asks("x", collection="mian")),
            plain.check("mian"),
        ):
            with pytest.raises(InvalidInput, match="'main'") as caught:
                await call
            assert caught.value.reason == "COLLECTION_NOT_FOUND"

    async def test_a_memory_of_a_session_names_it(self, plain):
        nowhere = replace(ADA, session="")
        assert await wrong_field(plain.remember(nowhere, note("x", scope=SESSION))) == "session"
