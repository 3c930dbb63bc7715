"""Pipelines whose files change while the service works."""

import asyncio
from contextlib import aclosing, asynccontextmanager

import pytest
import pytest_asyncio

from servers.domain.ingestions import IngestionState
from servers.domain.rag import IngestOutcome
from servers.kernel.errors import NotFound, NotReady, Unavailable
from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.stores import store_at
from servers.rag.working import Work
from tests.contract.rag_fixture import (
    ALICE,
    P,
    asks,
    at_work,
    declare,
    document,
    packaged_router,
    pipeline,
    service,
)
from tests.patience import PATIENCE
from tests.scripted.openai_server import openai_server
from tests.scripted.texts import Texts

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOLIDAYS = "Everybody has thirty days of holiday a year."
LUNCH = "The canteen serves soup and bread at noon."
AWAY = {"backend": "qdrant", "url": "http://127.0.0.1:9"}
ELSEWHERE = {"backend": "faiss", "collection": "elsewhere"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory):
    async with packaged_router(tmp_path_factory.mktemp("models")) as router:
        yield router


@pytest_asyncio.fixture(loop_scope="module")
async def rag(tmp_path, router):
    async with service(tmp_path, router, pipeline()) as rag:
        await rag.ingest(ALICE, P, document("a", HOLIDAYS))
        yield rag


@pytest.fixture
def take(rag, tmp_path):
    """Makes these the pipelines of the folder."""

    async def take(*pipelines, **users):
        return await rag.take_files(declare(tmp_path, *pipelines), users)

    return take


async def found(rag, text="holidays", **more):
    return [each.document for each in await rag.query(ALICE, asks(text, **more))]


async def opened(folder):
    """Whether the collection can be opened: one process at a time has it, and the service has
    it as long as it is used."""
    try:
        async with open_collection("faiss", Collection(P, folder / "state" / "faiss")):
            return True
    except NotReady:
        return False


async def until_opened(folder):
    async with asyncio.timeout(PATIENCE):
        while not await opened(folder):  # noqa: ASYNC110  # it sets no event
            await asyncio.sleep(0.01)


class TestAPipeline:
    async def test_that_is_new_takes_documents_in(self, rag, take):
        assert await take(pipeline(), pipeline("manual")) == {"manual"}
        await rag.ingest(ALICE, "manual", document("b", LUNCH))
        assert await found(rag, "soup", pipeline="manual") == ["b"]

    async def test_that_changed_works_as_it_says_now(self, rag, take):
        await rag.ingest(ALICE, P, document("b", LUNCH))
        assert await take(pipeline(retrieval={"top_k": 1})) == {P}
        assert len(await found(rag)) == 1

    async def test_whose_file_is_gone_is_not_found(self, rag, take):
        await take(pipeline("manual"))
        with pytest.raises(NotFound) as caught:
            await found(rag)
        assert caught.value.reason == "PIPELINE_NOT_FOUND"

    async def test_that_agents_name_is_ready_and_says_that_its_file_is_gone(self, rag, take):
        await take(**{P: ["helper"]})
        info = await rag.pipeline(ALICE, P)
        assert (info.ready, "'helper'" in info.reason) == (True, True)
        assert await found(rag) == ["a"]

    async def test_whose_file_became_faulty_is_ready_and_says_why(self, rag, take):
        await take(pipeline(chunking={"chunk_size": 0}))
        info = await rag.pipeline(ALICE, P)
        assert (info.ready, "chunk_size" in info.reason) == (True, True)
        assert await found(rag) == ["a"]

    async def test_whose_store_is_away_says_what_is_wrong_with_its_new_file_too(self, rag, take):
        await take(pipeline(vector_store={"backend": "qdrant", "url": "http://ann:pw@127.0.0.1:9"}))
        await take(pipeline(chunking={"chunk_size": 0}))
        info = await rag.pipeline(ALICE, P)
        assert not info.ready
        away, faulty = info.reason.split("; ")
        assert away.startswith("Qdrant at http://127.0.0.1:9 can't be reached: ")
        assert "chunk_size" in faulty

    async def test_that_is_back_has_its_documents(self, rag, take):
        await take()
        await take(pipeline())
        assert await found(rag) == ["a"]


class TestVectorsOfAnotherModel:
    async def test_of_another_length_are_refused_and_the_old_ones_found(self, rag, take):
        assert await take(pipeline(embeddings={"dimension": 64})) == set()
        info = await rag.pipeline(ALICE, P)
        assert (info.ready, info.dimension) == (True, 384)
        assert "keeps vectors of 'all-minilm-l6-v2' (384 numbers)" in info.reason
        assert await found(rag) == ["a"]

    async def test_of_the_same_length_are_refused_and_the_old_ones_found(self, rag, take):
        async with openai_server(Texts(length=384)) as model:
            other = {"provider": "openai_compat", "endpoint": model.endpoint, "model": "big"}
            await take(pipeline(embeddings=other))
            info = await rag.pipeline(ALICE, P)
        assert (info.ready, "of 'big' (384)" in info.reason) == (True, True)
        assert await found(rag) == ["a"]

    async def test_are_kept_in_another_collection(self, rag, take):
        async with openai_server(Texts()) as model:
            other = {"provider": "openai_compat", "endpoint": model.endpoint, "model": "big"}
            await take(pipeline(embeddings=other, vector_store=ELSEWHERE))
            await rag.ingest(ALICE, P, document("b", LUNCH))
            info = await rag.pipeline(ALICE, P)
        assert (info.reason, info.embedding_model, info.dimension) == ("", "big", 8)

    async def test_that_can_t_be_asked_for_now_hold_nothing_up(self, rag, take):
        away = {"provider": "openai_compat", "endpoint": "http://127.0.0.1:9/v1", "model": "big"}
        assert await take(pipeline(embeddings=away)) == {P}


class TestWhatHasBegun:
    async def test_ends_with_the_pipeline_that_it_began_with(self, rag, take, tmp_path):
        gone = asyncio.Event()

        async def documents():
            yield document("b", LUNCH)
            await gone.wait()
            yield document("c", HOLIDAYS)

        async with aclosing(rag.ingest_all(ALICE, P, documents())) as told:
            first = await anext(told)
            await take()
            assert not await opened(tmp_path)
            gone.set()
            rest = [each async for each in told]
        assert [each.outcome for each in (first, *rest)] == [IngestOutcome.CREATED] * 2

    async def test_and_ended_leaves_the_store_closed(self, rag, take, tmp_path):
        assert not await opened(tmp_path)
        await take()
        await until_opened(tmp_path)

    async def test_on_a_store_that_another_pipeline_has_too_leaves_it_open(
        self, rag, take, tmp_path
    ):
        await take(pipeline("manual", vector_store={"collection": P}))
        assert not await opened(tmp_path)
        assert await found(rag, pipeline="manual") == ["a"]


class TestAnIngestionThatWaits:
    @pytest.mark.parametrize("before", [(), (pipeline(vector_store=AWAY),)], ids=["gone", "away"])
    async def test_goes_on_at_once_when_its_pipeline_is_back(self, tmp_path, router, before):
        work = Work(first_pause=60.0)
        async with at_work(tmp_path, router, work, pipeline()) as (rag, worker, ingestions):

            async def take(*pipelines):
                await worker.changed(await rag.take_files(declare(tmp_path, *pipelines)))

            async def documents():
                yield document("a", HOLIDAYS)
                await take(*before)

            begun = await ingestions.start(ALICE, P, documents())
            async with aclosing(ingestions.watch(ALICE, begun.name)) as told:
                await anext(each async for each in told if each.waiting)
            await take(pipeline())
            ended = await ingestions.wait(ALICE, begun.name, PATIENCE)
        assert (ended.state, ended.created) == (IngestionState.DONE, 1)


async def test_documents_that_are_being_received_outlast_a_change(tmp_path, router):
    """Which looks up what waits for the pipeline, and must not touch what does not wait yet."""
    work = Work(first_pause=60.0)
    declared = pipeline(), pipeline("away", vector_store=AWAY)
    async with at_work(tmp_path, router, work, *declared) as (rag, worker, ingestions):

        async def documents():
            yield document("a", HOLIDAYS)
            again = declare(tmp_path, pipeline(retrieval={"top_k": 2}), declared[1])
            await worker.changed(await rag.take_files(again))
            yield document("b", LUNCH)

        async def one():
            yield document("a", HOLIDAYS)

        waits = await ingestions.start(ALICE, "away", one())
        async with aclosing(ingestions.watch(ALICE, waits.name)) as told:
            await anext(each async for each in told if each.waiting)
        begun = await ingestions.start(ALICE, P, documents())
        ended = await ingestions.wait(ALICE, begun.name, PATIENCE)
    assert (ended.state, ended.created) == (IngestionState.DONE, 2)


async def test_a_document_whose_pipeline_goes_while_its_store_is_opened_waits(tmp_path, router):
    """It is not the document's fault."""
    asked, go = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def slowly(place):
        asked.set()
        await go.wait()
        async with store_at(tmp_path / "state")(place) as store:
            yield store

    async def documents():
        yield document("a", HOLIDAYS)

    work = Work(first_pause=60.0)
    at_it = at_work(tmp_path, router, work, pipeline(), open_store=slowly)
    async with at_it as (rag, worker, ingestions):
        begun = await ingestions.start(ALICE, P, documents())
        await asked.wait()
        await rag.take_files(())
        go.set()
        async with aclosing(ingestions.watch(ALICE, begun.name)) as told:
            found = await anext(each async for each in told if each.waiting or each.over)
        assert (found.failed, "there is no pipeline" in found.waiting) == (0, True)
        await worker.changed(await rag.take_files(declare(tmp_path, pipeline())))
        ended = await ingestions.wait(ALICE, begun.name, PATIENCE)
    assert (ended.state, ended.created) == (IngestionState.DONE, 1)


async def test_a_document_in_hand_when_its_pipeline_changes_is_tried_again_at_once(
    tmp_path, router
):
    """Where the pipeline of before could not take it in."""
    asked, go = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def away_at_first(place):
        if place.backend == "qdrant":
            asked.set()
            await go.wait()
            raise Unavailable("nobody answers", reason="STORE_UNAVAILABLE")
        async with store_at(tmp_path / "state")(place) as store:
            yield store

    async def documents():
        yield document("a", HOLIDAYS)

    work, before = Work(first_pause=60.0), pipeline(vector_store=AWAY)
    at_it = at_work(tmp_path, router, work, before, open_store=away_at_first)
    async with at_it as (rag, worker, ingestions):
        begun = await ingestions.start(ALICE, P, documents())
        await asked.wait()
        await worker.changed(await rag.take_files(declare(tmp_path, pipeline())))
        go.set()
        ended = await ingestions.wait(ALICE, begun.name, PATIENCE)
    assert (ended.state, ended.created) == (IngestionState.DONE, 1)
