"""What `Ingestions` promises, checked in process and over the wire alike."""

from contextlib import aclosing
from dataclasses import replace

import pytest
import pytest_asyncio

from servers.domain.ingestions import IngestionFilter, IngestionState
from servers.kernel.errors import AlreadyExists, Exhausted, InvalidInput, NotFound, NotReady
from servers.rag.working import Work
from tests.contract.rag_fixture import (
    ALICE,
    ELSEWHERE,
    P,
    dialled,
    document,
    in_process,
    ingesting,
    packaged_router,
    pipeline,
)
from tests.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOLIDAYS = "Everybody has thirty days of holiday a year."
DONE, CANCELLED = IngestionState.DONE, IngestionState.CANCELLED
NOBODY = Work(lanes=0)  # what is accepted stays as it is
AWAY = {"vector_store": {"backend": "qdrant", "url": "http://127.0.0.1:9"}}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory):
    async with packaged_router(tmp_path_factory.mktemp("models")) as router:
        yield router


@pytest.fixture(params=[in_process, dialled], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest_asyncio.fixture(loop_scope="module")
async def ingestions(reached, tmp_path, router):
    files = (pipeline(), pipeline("away", **AWAY))
    async with (
        ingesting(tmp_path, router, Work(), *files) as kept,
        reached(kept) as ingestions,
    ):
        yield ingestions


@pytest_asyncio.fixture(loop_scope="module")
async def idle(reached, tmp_path, router):
    async with ingesting(tmp_path, router, NOBODY, pipeline()) as kept, reached(kept) as idle:
        yield idle


async def stream(*documents):
    for each in documents:
        yield each


async def start(ingestions, *documents, into=P, request_id=""):
    return await ingestions.start(ALICE, into, stream(*documents), request_id)


class TestAnIngestion:
    async def test_takes_in_what_can_be_and_says_what_can_t(self, ingestions):
        begun = await start(
            ingestions,
            document("a.md", HOLIDAYS),
            document("b.txt", b"\0"),
            document("a.md", HOLIDAYS),
        )
        ended = await ingestions.wait(ALICE, begun.name, PATIENCE)
        counts = (ended.documents, ended.created, ended.unchanged, ended.failed, ended.chunks)
        assert (ended.state, counts) == (DONE, (3, 1, 1, 1, 2))
        assert [(each.id, each.reason) for each in ended.failures] == [
            ("b.txt", "DOCUMENT_UNREADABLE")
        ]
        assert (ended.principal, ended.pipeline) == ("alice", P)

    async def test_is_watched_to_its_end(self, ingestions):
        begun = await start(ingestions, document("a.md", HOLIDAYS), document("b.md", HOLIDAYS))
        async with aclosing(ingestions.watch(ALICE, begun.name)) as told:
            seen = [each async for each in told]
        assert (seen[-1].state, seen[-1].done) == (DONE, 2)
        assert [each.done for each in seen] == sorted(each.done for each in seen)

    async def test_waits_for_a_store_that_is_away(self, ingestions):
        begun = await start(ingestions, document("a.md", HOLIDAYS), into="away")
        async with aclosing(ingestions.watch(ALICE, begun.name)) as told:
            waits = await anext(each async for each in told if each.waiting)
        assert (waits.over, waits.failed) == (False, 0)
        await ingestions.cancel(ALICE, begun.name)
        assert (await ingestions.wait(ALICE, begun.name, PATIENCE)).state is CANCELLED

    async def test_that_was_begun_is_the_same_for_the_same_request_id(self, ingestions):
        first = await start(ingestions, document("a.md", HOLIDAYS), request_id="r1")
        again = await start(ingestions, document("a.md", HOLIDAYS), request_id="r1")
        assert again.name == first.name

    async def test_is_not_begun_twice_for_other_documents(self, ingestions):
        await start(ingestions, document("a.md", HOLIDAYS), request_id="r1")
        with pytest.raises(AlreadyExists) as caught:
            await start(ingestions, document("a.md", "else"), request_id="r1")
        assert caught.value.reason == "REQUEST_ID_REUSED"

    async def test_without_documents_is_refused(self, ingestions):
        with pytest.raises(InvalidInput, match="documents"):
            await start(ingestions)

    async def test_into_a_pipeline_that_is_not_there_is_refused(self, ingestions):
        with pytest.raises(NotFound) as caught:
            await start(ingestions, document("a.md", HOLIDAYS), into="handbok")
        assert caught.value.reason == "PIPELINE_NOT_FOUND"

    async def test_of_another_tenant_is_not_found(self, ingestions):
        begun = await start(ingestions, document("a.md", HOLIDAYS))
        for asked in (ingestions.get, ingestions.cancel, ingestions.delete):
            with pytest.raises(NotFound) as caught:
                await asked(ELSEWHERE, begun.name)
            assert caught.value.reason == "OPERATION_NOT_FOUND"
        assert (await ingestions.list(ELSEWHERE, IngestionFilter())).ingestions == ()

    async def test_that_ended_can_be_forgotten(self, ingestions):
        begun = await start(ingestions, document("a.md", HOLIDAYS))
        await ingestions.wait(ALICE, begun.name, PATIENCE)
        await ingestions.delete(ALICE, begun.name)
        with pytest.raises(NotFound):
            await ingestions.get(ALICE, begun.name)


class TestWhatWaits:
    async def test_is_listed_newest_first_in_pages(self, idle):
        begun = [(await start(idle, document("a.md", HOLIDAYS))).name for _ in range(3)]
        first = await idle.list(ALICE, IngestionFilter(done=False, pipeline=P), 2)
        rest = await idle.list(
            ALICE, IngestionFilter(done=False, pipeline=P), 2, first.next_page_token
        )
        assert [each.name for each in (*first.ingestions, *rest.ingestions)] == begun[::-1]
        assert (await idle.list(ALICE, IngestionFilter(done=True))).ingestions == ()

    async def test_can_t_be_forgotten_before_its_end(self, idle):
        begun = await start(idle, document("a.md", HOLIDAYS))
        with pytest.raises(NotReady) as caught:
            await idle.delete(ALICE, begun.name)
        assert caught.value.reason == "OPERATION_RUNNING"

    async def test_is_shown_as_it_stands_when_the_time_is_up(self, idle):
        begun = await start(idle, document("a.md", HOLIDAYS))
        assert await idle.wait(ALICE, begun.name, 0.01) == replace(begun)

    async def test_has_an_end_to_its_room(self, idle):
        with pytest.raises(Exhausted) as caught:
            await start(idle, document("a.md", HOLIDAYS), document("b.md", "x" * (1 << 20)))
        assert caught.value.reason == "INGESTION_QUEUE_FULL"
        assert (await idle.list(ALICE, IngestionFilter())).ingestions == ()

    async def test_is_taken_in_after_the_next_start(self, idle, tmp_path_factory, router):
        folder = tmp_path_factory.mktemp("restarted")
        async with ingesting(folder, router, NOBODY, pipeline()) as before:
            begun = await start(before, document("a.md", HOLIDAYS))
        async with ingesting(folder, router, Work(), pipeline()) as after:
            ended = await after.wait(ALICE, begun.name, PATIENCE)
        assert (ended.state, ended.created) == (DONE, 1)

    async def test_ends_where_what_it_needs_stays_away(self, reached, tmp_path, router):
        work = Work(patience=0.0)
        files = (pipeline("away", **AWAY), pipeline())
        async with ingesting(tmp_path, router, work, *files) as kept, reached(kept) as ingestions:
            begun = await start(ingestions, document("a.md", HOLIDAYS), into="away")
            ended = await ingestions.wait(ALICE, begun.name, PATIENCE)
        assert (ended.state, ended.done) == (IngestionState.GAVE_UP, 0)
