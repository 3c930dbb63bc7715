"""Lists of large things: they come in pages that fit into a message, and all of them come."""

import time
from contextlib import asynccontextmanager

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.agents.adapters.opening import open_stores
from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.chat import Role, says
from servers.domain.episodes import Episode, EpisodeFilter, EpisodeOutcome, EpisodeType, RunTold
from servers.domain.memory import Details, SessionKey
from servers.domain.runs import RunFilter, RunState
from servers.domain.semantic import MemoryQuery, Reader, Remembered
from servers.kernel import paging
from servers.memory.remote import RemoteMemory
from servers.mesh import serve_mesh
from tests.contract.rag_fixture import ALICE, P, document, packaged_router, pipeline, service
from tests.contract.run_fixture import a_run, ended, new_id
from tests.running import agent, mesh_of

ME = Caller("acme", "ada")
KEY = SessionKey("acme", "helper", "s")
LARGE = 3_500_000  # characters; 20 of them are more than a message of 64 MiB
MANY = 20


@asynccontextmanager
async def dialled(folder, **memory):
    """The mesh, and a channel to it. Nobody asks a model."""
    async with (
        mesh_of(folder, agent("helper", "http://127.0.0.1:1", memory=memory)) as mesh,
        serve_mesh(mesh, port=0) as port,
        grpc.aio.insecure_channel(
            f"127.0.0.1:{port}", [("grpc.max_receive_message_length", 64 << 20)]
        ) as channel,
    ):
        yield mesh, channel


async def pages(list_, items):
    """What each page has, to the end."""
    found, token = [], ""
    while True:
        page = await list_(1000, token)
        found.append(items(page))
        if not (token := page.next_page_token):
            return found


async def test_runs_with_long_answers_arrive(tmp_path):
    (tmp_path / "state").mkdir()
    async with open_stores(tmp_path / "state", time.time, new_id) as stores:
        for number in range(MANY):
            run = a_run(f"r{number:02}", created_at=float(number), answer="x" * LARGE)
            await stores.runs.create(ended(run, RunState.COMPLETED))
    async with dialled(tmp_path) as (_, channel):
        agents = RemoteAgents(channel)
        found = await pages(
            lambda size, token: agents.list_runs(ME, RunFilter(), size, token),
            lambda page: [run.id for run in page.runs],
        )
    assert [each for page in found for each in page] == [f"r{n:02}" for n in range(MANY)][::-1]


@pytest.fixture
def small(monkeypatch):
    """Messages take less, so that it needs no millions of characters to fill one."""
    monkeypatch.setattr(paging, "MOST_BYTES", 2_000)


class TestPagesEndWhereAMessageIsFull:
    async def test_of_turns_and_their_exports(self, tmp_path, small):
        async with dialled(tmp_path, conversational={"backend": "sqlite"}) as (mesh, channel):
            for number in range(4):
                said = [says(Role.USER, "x" * 700)]
                await mesh.memory.append(KEY, said, f"r{number}", Details("ada"))
            memory = RemoteMemory(channel)
            listed = await pages(
                lambda size, token: memory.turns(KEY, size, token),
                lambda page: [turn.index for turn in page.turns],
            )
            exported = await pages(
                lambda size, token: memory.export("acme", "ada", size, token),
                lambda page: [record.turn.index for record in page.records],
            )
        for found in (listed, exported):
            assert [each for page in found for each in page] == [0, 1, 2, 3]
            assert len(found) > 1

    async def test_of_episodes_and_exports(self, tmp_path, small):
        async with dialled(tmp_path, episodic={"backend": "sqlite"}) as (mesh, channel):
            for number in range(4):
                told = Episode(
                    EpisodeType.RUN, "x" * 700, outcome=EpisodeOutcome.SUCCEEDED, created_at=1.0
                )
                await mesh.memory.episodes.record(RunTold(KEY, f"r{number}", 1, (told,), "ada"))
            memory = RemoteMemory(channel)
            listed = await pages(
                lambda size, token: memory.episodes.list(
                    EpisodeFilter("acme", "helper"), size, token
                ),
                lambda page: [each.run_id for each in page.episodes],
            )
            exported = await pages(
                lambda size, token: memory.export("acme", "ada", size, token),
                lambda page: [each.episode.run_id for each in page.records],
            )
        for found in (listed[::-1], exported):
            assert sorted(each for page in found for each in page) == ["r0", "r1", "r2", "r3"]
            assert len(found) > 1

    async def test_of_memories(self, tmp_path, small):
        async with dialled(tmp_path, semantic={}) as (mesh, channel):
            reader = Reader("acme", "helper", "ada")
            texts = {f"{animal} " * 150 for animal in ("cat", "dog", "horse", "snake")}
            for text in texts:
                said = Remembered(text, duplicate_threshold=1.0)
                await mesh.memory.semantic.remember(reader, said)
            memory = RemoteMemory(channel).semantic
            found = await pages(
                lambda size, token: memory.memories(reader, MemoryQuery(), size, token),
                lambda page: [each.text for each in page.memories],
            )
        assert {text.strip() for page in found for text in page} == {t.strip() for t in texts}
        assert len(found) > 1

    async def test_of_documents(self, tmp_path, small):
        async with (
            packaged_router(tmp_path / "models") as router,
            service(tmp_path, router, pipeline()) as rag,
        ):
            for name in "abcd":
                fields = {"about": "x" * 700}
                await rag.ingest(ALICE, P, document(f"{name}.md", "It.", metadata=fields))
            found = await pages(
                lambda size, token: rag.documents(ALICE, P, size, token),
                lambda page: [each.id for each in page.documents],
            )
        assert [each for page in found for each in page] == ["a.md", "b.md", "c.md", "d.md"]
        assert len(found) > 1


@given(st.lists(st.integers(0, paging.MOST_BYTES * 2)), st.integers(1, 9))
def test_a_page_has_what_fits_and_never_nothing(sizes, limit):
    page, more = paging.fitting(sizes, limit, lambda size: size)
    assert page == sizes[: len(page)]
    assert more == (len(page) < len(sizes))
    assert len(page) <= limit
    assert sum(page) <= paging.MOST_BYTES or len(page) == 1
    if more and len(page) < limit:
        assert sum(sizes[: len(page) + 1]) > paging.MOST_BYTES
    assert page or not sizes
