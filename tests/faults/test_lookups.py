"""Meshes that are killed when they have looked things up for a run, and its model has not
answered yet: the run is shown the same again, whatever is found by then."""

import asyncio
import shutil
from contextlib import asynccontextmanager

import grpc
import pytest
import yaml

from servers.domain.episodes import Episode, EpisodeType, Note
from servers.domain.rag import Document
from servers.domain.run_events import EpisodesRecalled, KnowledgeFound, MemoriesRecalled
from servers.domain.runs import RunRequest, RunState
from servers.domain.semantic import Reader, Remembered
from servers.memory.remote import RemoteMemory
from servers.rag.remote import RemoteRag
from tests.contract.rag_fixture import pipeline
from tests.faults.replicas import ME, fleet, followed
from tests.running import agent
from tests.scripted.http_server import Reply, Then
from tests.scripted.openai_server import openai_server

ASK = RunRequest("helper", "Where does the sailing boat of the company spend the winter?")
HARBOUR = "The sailing boat of the company is moored in the harbour of Rotterdam until the spring."
BOOK = "The sailing boat of the company is eleven metres long."
NOTED = "The sailing boat was painted."
SHOWS = {
    "knowledge": {"pipeline": "handbook"},
    "memory": {"semantic": {"remember": {"policy": "none"}}, "episodic": {"backend": "sqlite"}},
}
SAYS_NOTHING = Reply((), then=Then.HANG)  # no text that takes what was looked up to the disk
TOLD = (MemoriesRecalled, EpisodesRecalled, KnowledgeFound)


@asynccontextmanager
async def meshes_of(folder, model, dsn=""):
    """Over runs that all may go on with, each with its own knowledge and memory."""
    rag = folder / "config" / "rag"
    rag.mkdir(parents=True)
    (rag / "handbook.rag.yaml").write_text(yaml.safe_dump(pipeline()))
    async with fleet(folder, [agent("helper", model.endpoint, **SHOWS)], dsn) as meshes:
        yield meshes


async def fill(replica) -> None:
    """Let it know something that bears on the question, from each source."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{replica.port}") as channel:
        memory = RemoteMemory(channel)
        reader = Reader(ME.tenant, "helper", ME.principal)
        noted = Episode(EpisodeType.CUSTOM, NOTED, agent="helper", backend="sqlite")
        await RemoteRag(channel).ingest(ME, "handbook", Document("boat.txt", BOOK.encode()))
        await memory.semantic.remember(reader, Remembered(HARBOUR))
        await memory.episodes.add(Note(ME.tenant, noted))


def forget_all_but_runs(replica) -> None:
    for each in (replica.folder / replica.name).iterdir():
        if each.is_dir():
            shutil.rmtree(each)
        elif not each.name.startswith("runs.db"):
            each.unlink()


async def killed_before_the_answer(first, other, model, forgets=lambda replica: None):
    """The run as it has ended, and all that a watcher has heard of it."""
    async with first.dialled() as agents:
        run = await agents.create_run(ME, ASK)
    events: list = []
    watching = asyncio.create_task(followed([first, other], run.id, events))
    await model.asked.wait()
    await first.kill()
    if other is first:
        forgets(first)
        await first.start()
    return await watching, [event.payload for event in events]


def shown(model):
    """What each attempt has shown, of which there are two, and more on a busy machine."""
    first, *others = [asked.body["messages"] for asked in model.requests]
    assert others
    assert all(each == first for each in others)
    return first


@pytest.mark.parametrize("runs", ["sqlite", "postgres"])
async def test_that_found_something_show_it_again_and_tell_of_it_once(tmp_path, request, runs):
    dsn = request.getfixturevalue("postgres").schema() if runs == "postgres" else ""
    async with (
        openai_server(SAYS_NOTHING, Reply(("In Rotterdam",))) as model,
        meshes_of(tmp_path, model, dsn) as meshes,
    ):
        first = await meshes.add()
        await fill(first)
        other = await meshes.add() if dsn else first  # another one knows nothing
        run, told = await killed_before_the_answer(first, other, model, forget_all_but_runs)
    assert (run.state, run.answer) == (RunState.COMPLETED, "In Rotterdam")
    prompt = shown(model)
    for text in (HARBOUR, BOOK, NOTED):
        assert text in prompt[0]["content"]
    assert [[type(each) for each in told].count(kind) for kind in TOLD] == [1, 1, 1]


async def test_that_found_nothing_show_nothing_that_is_found_elsewhere(tmp_path, postgres):
    async with (
        openai_server(SAYS_NOTHING, Reply(("I don't know",))) as model,
        meshes_of(tmp_path, model, postgres.schema()) as meshes,
    ):
        first, other = await meshes.add(), await meshes.add()
        await fill(other)
        run, told = await killed_before_the_answer(first, other, model)
    assert run.state is RunState.COMPLETED
    assert shown(model) == [{"role": "user", "content": ASK.query}]
    found = [each for each in told if isinstance(each, TOLD)]
    assert [type(each) for each in found] == [*TOLD]
