"""What `Rag` promises, checked in process and over the wire alike."""

import asyncio

import pytest
import pytest_asyncio

from servers.domain.rag import IngestOutcome, Mmr
from servers.kernel.errors import (
    AstromeshError,
    Denied,
    InvalidInput,
    NotFound,
    NotReady,
    Unavailable,
)
from servers.kernel.vectors.opening import BACKENDS
from tests.contract.rag_fixture import ALICE, BOB, ELSEWHERE, P, asks, document, pipeline, service
from tests.contract.rag_world import found, model_folder, rag, reached, router

__all__ = ["model_folder", "rag", "reached", "router"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
HOLIDAYS = "# Holidays\n\nEverybody has thirty days of holiday a year.\n\nAsk your lead first."
LUNCH = "# Lunch\n\nThe canteen serves soup and bread at noon."
SAFETY = "# Fire\n\nWhen the alarm rings leave the building by the stairs."
CREATED, REPLACED = IngestOutcome.CREATED, IngestOutcome.REPLACED
UNCHANGED, FAILED = IngestOutcome.UNCHANGED, IngestOutcome.FAILED


async def stream(*documents):
    for each in documents:
        yield each


class TestIngest:
    async def test_tells_what_was_stored(self, rag):
        given = document(
            "holidays.md", HOLIDAYS, uri="https://wiki/h", metadata={"topic": "time", "year": 2026}
        )
        stored, outcome = await rag.ingest(ALICE, P, given)
        assert (outcome, stored.id, stored.title) == (CREATED, "holidays.md", "Holidays")
        assert (stored.uri, stored.metadata) == (given.uri, given.metadata)
        assert (stored.chunks, stored.updated_at) == (1, 1_700_000_000.5)

    async def test_of_the_same_again_changes_nothing(self, rag):
        outcomes = [
            (await rag.ingest(ALICE, P, document("a.md", HOLIDAYS)))[1],
            (await rag.ingest(ALICE, P, document("a.md", HOLIDAYS)))[1],
            (await rag.ingest(ALICE, P, document("a.md", HOLIDAYS, metadata={"n": 1})))[1],
            (await rag.ingest(ALICE, P, document("b.md", HOLIDAYS)))[1],
        ]
        assert outcomes == [CREATED, UNCHANGED, REPLACED, CREATED]

    async def test_of_another_content_takes_the_place_of_all_chunks(self, rag):
        await rag.ingest(ALICE, P, document("a.md", HOLIDAYS * 20))
        _, outcome = await rag.ingest(ALICE, P, document("a.md", LUNCH))
        passages = await rag.query(ALICE, asks("holidays and lunch", top_k=100))
        assert (outcome, [each.text for each in passages]) == (REPLACED, [LUNCH])

    @pytest.mark.parametrize(
        ("name", "content", "reason"),
        [
            ("junk.txt", bytes(range(256)) * 20, "DOCUMENT_UNREADABLE"),
            ("nul.txt", b"one\x00two", "DOCUMENT_UNREADABLE"),
            ("latin.txt", "Gr\u00fc\u00dfe".encode("latin-1"), "DOCUMENT_UNREADABLE"),
            ("broken.pdf", b"%PDF-1.7\n1 0 obj <<", "DOCUMENT_UNREADABLE"),
            ("broken.docx", b"PK\x03\x04nothing", "DOCUMENT_UNREADABLE"),
            ("broken.json", b'{"a": ', "DOCUMENT_UNREADABLE"),
            ("empty.md", b"", "DOCUMENT_EMPTY"),
            ("blank.html", b"<html><script>x()</script></html>", "DOCUMENT_EMPTY"),
            ("", b"text", "INVALID_INPUT"),
            ("a\nb", b"text", "INVALID_INPUT"),
            ("n" * 513, b"text", "INVALID_INPUT"),
        ],
        ids=lambda value: value[:12] if isinstance(value, str) else "",
    )
    async def test_of_what_can_t_be_read_stores_nothing(self, rag, name, content, reason):
        await rag.ingest(ALICE, P, document("good.md", HOLIDAYS))
        with pytest.raises(InvalidInput) as caught:
            await rag.ingest(ALICE, P, document(name, content))
        assert caught.value.reason == reason
        assert await found(rag, "how many days of holiday?", top_k=100) == ["good.md"]

    async def test_that_fails_leaves_the_document_that_was_there(self, rag):
        await rag.ingest(ALICE, P, document("a.txt", HOLIDAYS))
        with pytest.raises(InvalidInput):
            await rag.ingest(ALICE, P, document("a.txt", b"\xff\xfe\xff"))
        assert await found(rag, "holidays") == ["a.txt"]

    async def test_never_takes_another_principals_document(self, rag):
        await rag.ingest(ALICE, P, document("a.md", HOLIDAYS, acl=("alice",)))
        with pytest.raises(Denied):
            await rag.ingest(BOB, P, document("a.md", LUNCH))
        assert await found(rag, "holidays") == ["a.md"]

    async def test_into_a_pipeline_that_is_not_there_is_refused(self, rag):
        with pytest.raises(NotFound) as caught:
            await rag.ingest(ALICE, "handbok", document("a.md", HOLIDAYS))
        assert caught.value.reason == "PIPELINE_NOT_FOUND"
        assert "'handbook'" in caught.value.message


class TestIngestAll:
    async def test_tells_of_each_document_and_goes_on_after_faults(self, rag):
        documents = stream(
            document("a.md", HOLIDAYS), document("b.txt", b"\x00"), document("a.md", HOLIDAYS)
        )
        told = [each async for each in rag.ingest_all(ALICE, P, documents)]
        assert [(each.id, each.outcome) for each in told] == [
            ("a.md", CREATED),
            ("b.txt", FAILED),
            ("a.md", UNCHANGED),
        ]
        assert told[1].error_reason == "DOCUMENT_UNREADABLE"
        assert told[0].chunks == 1

    async def test_tells_of_each_as_soon_as_it_is_stored(self, rag):
        second = asyncio.Event()

        async def slow():
            yield document("a.md", HOLIDAYS)
            yield document("b.md", LUNCH)
            await second.wait()
            yield document("c.md", SAFETY)

        told = rag.ingest_all(ALICE, P, slow())
        first = await anext(told)
        second.set()
        assert [first.id, *[each.id async for each in told]] == ["a.md", "b.md", "c.md"]

    async def test_takes_documents_larger_than_a_message(self, rag):
        large = document("large.txt", ("word " * 30 + "\n\n") * 100 + " " * (5 << 20))
        (told,) = [each async for each in rag.ingest_all(ALICE, P, stream(large))]
        assert (told.outcome, told.chunks) == (CREATED, 100)

    async def test_refuses_documents_of_100_megabytes(self, rag):
        huge = document("huge.txt", b"a" * (100 << 20))
        told = [each async for each in rag.ingest_all(ALICE, P, stream(huge, document("b", LUNCH)))]
        assert [each.error_reason for each in told] == ["DOCUMENT_TOO_LARGE", ""]


class TestQuery:
    @pytest_asyncio.fixture(loop_scope="module")
    async def filled(self, rag):
        texts = {"holidays.md": HOLIDAYS, "lunch.md": LUNCH, "safety.md": SAFETY}
        for n, (name, text) in enumerate(texts.items()):
            await rag.ingest(ALICE, P, document(name, text, metadata={"n": n, "kind": "md"}))
        return rag

    async def test_finds_what_says_most_first(self, filled):
        asked = ["How long is my vacation?", "what is there to eat", "escape in an emergency"]
        assert [(await found(filled, text))[0] for text in asked] == [
            "holidays.md",
            "lunch.md",
            "safety.md",
        ]

    async def test_tells_where_a_passage_stands(self, filled):
        passage = (await filled.query(ALICE, asks("soup", top_k=1)))[0]
        assert LUNCH[passage.start : passage.end] == passage.text
        assert passage.citation == f"Lunch [0-{len(LUNCH)}]"
        assert passage.score == pytest.approx(passage.similarity)

    async def test_gives_no_more_than_asked_for(self, filled):
        assert [len(await found(filled, "x", top_k=n)) for n in (1, 2, 1000)] == [1, 2, 3]

    async def test_leaves_out_what_is_less_similar_than_asked_for(self, filled):
        assert await found(filled, LUNCH, similarity_threshold=0.95) == ["lunch.md"]
        assert await found(filled, LUNCH, similarity_threshold=1.0) in ([], ["lunch.md"])

    async def test_filters_by_metadata(self, filled):
        assert await found(filled, "holidays", where={"n": (1, 2), "kind": "md"}, top_k=2) != []
        assert await found(filled, "holidays", where={"n": 1}) == ["lunch.md"]
        assert await found(filled, "holidays", where={"kind": "pdf"}) == []

    @pytest.mark.parametrize(
        ("more", "field"),
        [
            ({"top_k": 0}, "top_k"),
            ({"top_k": 10**9}, "top_k"),
            ({"top_k": -1}, "top_k"),
            ({"similarity_threshold": 2.0}, "similarity_threshold"),
            ({"mmr": Mmr(1.5)}, "mmr.lambda_mult"),
            ({"mmr": Mmr(float("nan"))}, "mmr.lambda_mult"),
            ({"mmr": Mmr(fetch_k=0)}, "mmr.fetch_k"),
            ({"mmr": Mmr(fetch_k=10**9)}, "mmr.fetch_k"),
            ({"where": {"nothing": 1}}, "filter.nothing"),
            ({"where": {"n": ()}}, "filter.n"),
        ],
        ids=str,
    )
    async def test_refuses_what_makes_no_sense(self, filled, more, field):
        with pytest.raises(InvalidInput) as caught:
            await filled.query(ALICE, asks("x", **more))
        assert [each.field for each in caught.value.violations] == [field]

    async def test_refuses_an_empty_question(self, filled):
        with pytest.raises(InvalidInput):
            await filled.query(ALICE, asks(" \n"))

    async def test_of_an_empty_pipeline_finds_nothing(self, rag):
        assert await found(rag, "anything") == []

    async def test_never_sees_another_tenants_or_principals_documents(self, filled):
        await filled.ingest(ALICE, P, document("secret.md", HOLIDAYS, acl=("alice",)))
        assert await found(filled, "holidays", ELSEWHERE) == []
        assert "secret.md" in await found(filled, "holidays", ALICE)
        assert "secret.md" not in await found(filled, "holidays", BOB, top_k=100)


class TestDocuments:
    async def test_are_listed_by_id_in_pages(self, rag):
        for name in ("c", "a", "b"):
            await rag.ingest(ALICE, P, document(name, f"The document {name}"))
        await rag.ingest(ALICE, P, document("hers", LUNCH, acl=("alice",)))
        first = await rag.documents(BOB, P, 2)
        rest = await rag.documents(BOB, P, 2, first.next_page_token)
        listed = [each.id for page in (first, rest) for each in page.documents]
        assert (listed, rest.next_page_token) == (["a", "b", "c"], "")

    async def test_that_are_deleted_are_found_no_more(self, rag):
        await rag.ingest(ALICE, P, document("dir/a b.md", HOLIDAYS * 20))
        deleted = await rag.delete(ALICE, P, "dir/a b.md")
        assert deleted > 1
        assert await found(rag, "holidays") == []
        with pytest.raises(NotFound):
            await rag.delete(ALICE, P, "dir/a b.md")

    async def test_of_others_can_t_be_deleted(self, rag):
        await rag.ingest(ALICE, P, document("a", HOLIDAYS, acl=("alice",)))
        for caller in (BOB, ELSEWHERE):
            with pytest.raises(NotFound):
                await rag.delete(caller, P, "a")
        assert await found(rag, "holidays") == ["a"]


class TestPipelines:
    async def test_tell_what_they_are(self, rag):
        (before,) = await rag.pipelines(ALICE)
        await rag.ingest(ALICE, P, document("a", HOLIDAYS))
        after = await rag.pipeline(ALICE, P)
        assert (before.backend, before.chunking, before.reason) == ("faiss", "recursive", "")
        assert (before.dimension, before.chunks) == (0, 0)
        assert (after.embedding_model, after.dimension, after.chunks) == (
            "all-minilm-l6-v2",
            384,
            1,
        )

    async def test_that_are_wrong_say_why_and_stop_no_others(self, reached, tmp_path, router):
        wrong = pipeline("wrong", chunking={"chunk_size": 10, "overlap": 10})
        async with service(tmp_path, router, pipeline(), wrong) as kept, reached(kept) as rag:
            listed = {each.name: each.reason for each in await rag.pipelines(ALICE)}
            assert "overlap 10 is not smaller than chunk_size 10" in listed["wrong"]
            with pytest.raises(NotReady) as caught:
                await rag.query(ALICE, asks("x", pipeline="wrong"))
            assert caught.value.reason == "PIPELINE_NOT_READY"
            await rag.ingest(ALICE, P, document("a", HOLIDAYS))

    async def test_show_how_they_cut(self, rag):
        text = "One two three. " * 40
        chunks = await rag.chunk(ALICE, P, text)
        assert len(chunks) > 2
        assert all(text[each.start : each.end] == each.text for each in chunks)
        assert all(len(each.text) <= 200 for each in chunks)
        assert await rag.chunk(ALICE, P, "") == []

    async def test_keep_their_documents_over_a_restart(self, reached, tmp_path, router):
        for _ in range(2):
            async with service(tmp_path, router, pipeline()) as kept, reached(kept) as rag:
                _, outcome = await rag.ingest(ALICE, P, document("a", HOLIDAYS))
                assert await found(rag, "holidays") == ["a"]
        assert outcome is UNCHANGED

    async def test_refuse_vectors_of_another_model(self, tmp_path, router):
        async with service(tmp_path, router, pipeline()) as rag:
            await rag.ingest(ALICE, P, document("a", HOLIDAYS))
        shorter = pipeline(embeddings={"dimension": 64})
        async with service(tmp_path, router, shorter) as rag:
            with pytest.raises(AstromeshError) as caught:
                await rag.ingest(ALICE, P, document("b", LUNCH))
            assert caught.value.reason in {"EMBEDDING_MISMATCH", "DIMENSION_MISMATCH"}

    @pytest.mark.parametrize("strategy", ["fixed", "sentence", "semantic"])
    async def test_cut_in_every_way(self, tmp_path, router, strategy):
        said = pipeline(chunking={"strategy": strategy, "chunk_size": 60, "overlap": 10})
        async with service(tmp_path, router, said) as rag:
            stored, _ = await rag.ingest(ALICE, P, document("a", HOLIDAYS + LUNCH))
            assert stored.chunks > 1
            assert await found(rag, "how many days of holiday", top_k=1) == ["a"]

    async def test_measure_in_tokens_where_they_say_so(self, tmp_path, router):
        said = pipeline(chunking={"unit": "tokens", "chunk_size": 16, "overlap": 4})
        async with service(tmp_path, router, said) as rag:
            chunks = await rag.chunk(ALICE, P, HOLIDAYS * 3)
            assert 3 < len(chunks) < 12

    async def test_rerank_where_they_say_so(self, tmp_path, router):
        said = pipeline(reranking={}, retrieval={"top_k": 2, "hybrid": True})
        async with service(tmp_path, router, said) as rag:
            for name, text in {"h": HOLIDAYS, "l": LUNCH, "s": SAFETY}.items():
                await rag.ingest(ALICE, P, document(name, text))
            passages = await rag.query(ALICE, asks("soup at noon"))
            assert [len(passages), passages[0].document] == [2, "l"]
            assert passages[0].score != passages[0].similarity


class TestEveryStore:
    @pytest.mark.parametrize("backend", list(BACKENDS))
    async def test_does_the_same(self, request, tmp_path, router, backend):
        store = {"backend": backend}
        if backend == "pgvector":
            store["dsn"] = request.getfixturevalue("postgres").schema()
        said = pipeline(vector_store=store, retrieval={"hybrid": True})
        for _ in range(2):  # the second time after a restart
            async with service(tmp_path, router, said) as rag:
                for name, text in {"h": HOLIDAYS, "l": LUNCH, "s": SAFETY}.items():
                    await rag.ingest(ALICE, P, document(name, text, metadata={"name": name}))
                assert await found(rag, "How long is my vacation?", top_k=1) == ["h"]
                assert await found(rag, "vacation", where={"name": ("l", "s")}, top_k=1) != ["h"]
                listed = await rag.documents(BOB, P)
                assert [each.id for each in listed.documents] == ["h", "l", "s"]
                assert (await rag.pipeline(ALICE, P)).chunks == 3
        async with service(tmp_path, router, said) as rag:
            assert await rag.delete(ALICE, P, "h") == 1
            assert "h" not in await found(rag, "How long is my vacation?")

    async def test_that_nobody_serves_says_so_and_stops_no_others(self, tmp_path, router):
        away = {"backend": "qdrant", "url": "http://127.0.0.1:9"}
        both = pipeline(), pipeline("away", vector_store=away)
        async with service(tmp_path, router, *both) as rag:
            await rag.ingest(ALICE, P, document("a", HOLIDAYS))
            listed = {each.name: each.reason for each in await rag.pipelines(ALICE)}
            assert listed[P] == ""
            assert listed["away"].startswith("Qdrant at http://127.0.0.1:9 can't be reached: ")
            with pytest.raises(Unavailable) as caught:
                await rag.query(ALICE, asks("x", pipeline="away"))
            assert caught.value.reason == "STORE_UNAVAILABLE"
