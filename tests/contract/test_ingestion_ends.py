"""How ingestions end early, with a document in hand: cancelled, or with their process."""

import asyncio
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace

import pytest
import pytest_asyncio

from servers.domain.ingestions import Ingestion, IngestionState
from servers.domain.services import Ingestions, Rag
from servers.rag.working import Hand, Work
from tests.contract.rag_fixture import (
    ALICE,
    BOB,
    P,
    dialled,
    document,
    in_process,
    packaged_router,
    pipeline,
    taking_in,
)
from tests.patience import PATIENCE
from tests.scripted.http_server import Reply, ScriptedServer
from tests.scripted.openai_server import openai_server

pytestmark = pytest.mark.asyncio(loop_scope="module")

AT_ONCE = Work(drain=0.0)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(tmp_path_factory):
    async with packaged_router(tmp_path_factory.mktemp("models")) as router:
        yield router


@pytest.fixture(params=[in_process, dialled], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@dataclass
class Slow:
    """A model that makes vectors of one document, and of the others once it is let."""

    server: ScriptedServer
    let: asyncio.Event

    @property
    def pipeline(self) -> dict:
        embeddings = {"provider": "openai_compat", "model": "m", "endpoint": self.server.endpoint}
        return pipeline(embeddings=embeddings)


@pytest_asyncio.fixture(loop_scope="module")
async def slow():
    let = asyncio.Event()
    async with openai_server(Reply(), Reply(hold=let)) as server:
        yield Slow(server, let)


async def begun(ingestions: Ingestions, *acl: str) -> Ingestion:
    """Its second document that can be read is in hand."""

    async def documents():
        yield document("junk.txt", b"\0", acl=acl)
        for name in ("a.md", "b.md", "c.md"):
            yield document(name, f"This is {name}. " * 40, acl=acl)

    given = await ingestions.start(ALICE, P, documents())
    async with asyncio.timeout(PATIENCE), aclosing(ingestions.watch(ALICE, given.name)) as told:
        return await anext(each async for each in told if each.current == "b.md")


async def only(name: str):
    yield document(name, "It is the only one.")


async def names(rag: Rag) -> list[str]:
    return [each.id for each in (await rag.documents(ALICE, P)).documents]


class TestCancelling:
    @asynccontextmanager
    async def cancelled(self, reached, folder, router, slow):
        async with (
            taking_in(folder, router, Work(), slow.pipeline) as (rag, kept),
            reached(kept) as ingestions,
        ):
            name = (await begun(ingestions)).name
            await ingestions.cancel(ALICE, name)
            yield rag, await ingestions.wait(ALICE, name, PATIENCE)

    async def test_ends_inside_the_document_in_hand_and_stores_nothing_of_it(
        self, reached, tmp_path, router, slow
    ):
        """Its model never answers."""
        async with self.cancelled(reached, tmp_path, router, slow) as (rag, ended):
            assert (ended.state, ended.created) == (IngestionState.CANCELLED, 1)
            assert await names(rag) == ["a.md"]
            assert (await rag.pipeline(ALICE, P)).chunks == ended.chunks

    async def test_leaves_the_failures_on_record(self, reached, tmp_path, router, slow):
        async with self.cancelled(reached, tmp_path, router, slow) as (_, ended):
            (failure,) = ended.failures
            assert (failure.id, failure.reason) == ("junk.txt", "DOCUMENT_UNREADABLE")
            assert ended.failed == 1

    async def test_is_too_late_for_a_document_that_is_being_stored(self):
        hand = Hand()

        async def work():
            await hand.storing()
            hand.drop()
            await asyncio.sleep(0.01)
            return "stored"

        assert await hand.held(work) == "stored"

    async def test_is_never_too_late_before(self):
        hand, wrote = Hand(), []

        async def work():
            hand.drop()
            await hand.storing()
            wrote.append("half")

        assert await hand.held(work) is None
        assert wrote == []

    async def test_stores_nothing_where_it_is_dropped_at_the_last_moment(self, tmp_path, router):
        dropped = asyncio.Event()

        async def storing():
            dropped.set()
            await asyncio.Event().wait()

        async with (
            taking_in(tmp_path, router, Work(), pipeline()) as (rag, _),
            asyncio.timeout(PATIENCE),
        ):
            new = document("a.md", "This is it. " * 40)
            task = asyncio.create_task(rag.ingest(ALICE, P, new, storing))
            await dropped.wait()
            task.cancel()
            await asyncio.wait([task])
            assert await names(rag) == []

    async def test_ends_what_waits_for_its_turn_before_others_go_on(
        self, reached, tmp_path, router, slow
    ):
        async with (
            taking_in(tmp_path, router, Work(lanes=1), slow.pipeline) as (_, kept),
            reached(kept) as ingestions,
        ):
            busy, queued = await begun(ingestions), await ingestions.start(ALICE, P, only("d.md"))
            await ingestions.cancel(ALICE, queued.name)
            slow.let.set()
            first, last = [
                await ingestions.wait(ALICE, each.name, PATIENCE) for each in (queued, busy)
            ]
            assert (first.state, first.done) == (IngestionState.CANCELLED, 0)
            assert (last.state, first.ended_at < last.ended_at) == (IngestionState.DONE, True)


async def test_documents_are_named_to_those_who_may_see_them(reached, tmp_path, router, slow):
    """In hand, and failed; all others of the tenant are told numbers."""
    carol = replace(ALICE, principal="carol")
    async with (
        taking_in(tmp_path, router, Work(), slow.pipeline) as (_, kept),
        reached(kept) as ingestions,
    ):
        name = (await begun(ingestions, "carol")).name  # by Alice
        told = [await ingestions.get(caller, name) for caller in (ALICE, carol, BOB)]
        slow.let.set()
        await ingestions.wait(ALICE, name, PATIENCE)
    assert [each.current for each in told] == ["b.md", "b.md", ""]
    assert [len(each.failures) for each in told] == [1, 1, 0]
    assert [each.failed for each in told] == [1, 1, 1]


class TestTheEndOfTheProcess:
    async def test_leaves_time_to_the_document_in_hand(self, tmp_path, router, slow):
        patient = Work(drain=PATIENCE)
        async with taking_in(tmp_path, router, patient, slow.pipeline) as (_, ingestions):
            name = (await begun(ingestions)).name
            asyncio.get_running_loop().call_later(0.05, slow.let.set)
        async with taking_in(tmp_path, router, Work(), slow.pipeline) as (rag, ingestions):
            ended = await ingestions.wait(ALICE, name, PATIENCE)
            assert await names(rag) == ["a.md", "b.md", "c.md"]
        assert (ended.state, ended.created, ended.failed) == (IngestionState.DONE, 3, 1)
        assert len(slow.server.requests) == 3  # nothing was embedded twice

    async def test_lets_go_of_what_takes_longer(self, tmp_path, router, slow):
        async with taking_in(tmp_path, router, AT_ONCE, slow.pipeline) as (_, ingestions):
            name = (await begun(ingestions)).name
        slow.let.set()
        async with taking_in(tmp_path, router, Work(), slow.pipeline) as (rag, ingestions):
            ended = await ingestions.wait(ALICE, name, PATIENCE)
            assert await names(rag) == ["a.md", "b.md", "c.md"]
            assert (await rag.pipeline(ALICE, P)).chunks == ended.chunks
        assert (ended.state, ended.created, ended.failed) == (IngestionState.DONE, 3, 1)
