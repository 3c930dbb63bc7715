"""Files of pipelines and agents that change while a mesh runs, in one process and in several."""

import asyncio
from contextlib import ExitStack

import grpc
import pytest
import yaml

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.ingestions import IngestionState
from servers.domain.rag import Document, PassageQuery
from servers.domain.run_events import KnowledgeFound
from servers.domain.runs import RunRequest
from servers.kernel.errors import AstromeshError, InvalidInput, NotFound, NotReady, Unavailable
from servers.rag.remote import RemoteRag
from servers.rag.remote_ingestions import RemoteIngestions
from tests.contract.rag_fixture import pipeline
from tests.mesh.mesh_process import mesh_process, services
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.running import agent
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server
from tests.scripted.texts import Texts

ME = Caller()
HOLIDAYS = Document("holidays.md", b"Everybody has thirty days of holiday a year.")
NOWHERE = "http://127.0.0.1:9/v1"
AWAY = {"backend": "qdrant", "url": "http://127.0.0.1:9"}
KEYS = {"KEY_OF_AGENT": "for-agents", "KEY_OF_PIPELINE": "for-pipelines"}


async def until(ask, wanted=bool):
    """What `ask` gives as soon as it is `wanted`; faults of the mesh are waited out."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                if wanted(found := await ask()):
                    return found
            except AstromeshError:
                pass
            await asyncio.sleep(0.02)


async def refused(ask, kind):
    """The refusal that `ask` ends with sooner or later."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await ask()
            except kind as error:
                return error
            await asyncio.sleep(0.02)


async def stream(*documents):
    for each in documents:
        yield each


class World:
    """The files of a mesh, and its services from outside."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.config = folder / "config"
        for name in ("agents", "rag"):
            (self.config / name).mkdir(parents=True)

    def reach(self, rag, agents) -> None:
        self.rag, self.ingestions = RemoteRag(rag), RemoteIngestions(rag)
        self.agents = RemoteAgents(agents)

    def _file(self, kind, name):
        return self.config / ("rag" if kind == "rag" else "agents") / f"{name}.{kind}.yaml"

    def write(self, *manifests):
        for each in manifests:
            kind = "agent" if each["kind"] == "Agent" else "rag"
            text = yaml.safe_dump(each, sort_keys=False)
            self._file(kind, each["metadata"]["name"]).write_text(text)

    def remove(self, kind, name):
        self._file(kind, name).unlink()

    async def says(self, text):
        return text in self.log()

    async def listed(self, name):
        return await self.rag.pipeline(ME, name)

    async def declared(self, name):
        return await self.agents.get(ME, name)

    async def found(self, name):
        passages = await self.rag.query(ME, PassageQuery(name, "how many days of holiday?"))
        return [each.document for each in passages]

    async def filled(self, name):
        """A pipeline of that name, with a document in it."""
        self.write(pipeline(name))
        await until(lambda: self.listed(name))
        await self.rag.ingest(ME, name, HOLIDAYS)


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """A mesh in one process, without a folder of pipelines at first."""
    world = World(tmp_path_factory.mktemp("reload"))
    (world.config / "rag").rmdir()
    with mesh_process(world.folder, services(world.folder)) as mesh:
        (world.config / "rag").mkdir()
        world.log = mesh.log
        yield world, mesh


@pytest.fixture
async def world(running):
    world, mesh = running
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        world.reach(channel, channel)
        yield world


def asks(name, endpoint=NOWHERE, **more):
    """An agent that looks things up in the pipeline."""
    return agent(f"asks-{name}", endpoint, knowledge={"pipeline": name}, **more)


class TestAFileOfAPipeline:
    async def test_may_come_with_an_agent_that_names_it(self, world):
        async with openai_server(Reply(("Thirty [1].",))) as model:
            world.write(asks("new", model.endpoint), pipeline("new"))
            await until(lambda: world.declared("asks-new"), lambda record: record.ready)
            await world.rag.ingest(ME, "new", HOLIDAYS)
            run = await world.agents.run(ME, RunRequest("asks-new", "how many days of holiday?"))
            events = [each.payload async for each in world.agents.events(ME, run.id)]
        (known,) = [each for each in events if isinstance(each, KnowledgeFound)]
        assert (run.answer, known.sources[0].document) == ("Thirty [1].", "holidays.md")

    async def test_that_changed_is_taken_over(self, world):
        await world.filled("changing")
        world.write(pipeline("changing", chunking={"strategy": "sentence"}))
        await until(lambda: world.listed("changing"), lambda info: info.chunking == "sentence")
        assert await world.found("changing") == ["holidays.md"]

    async def test_that_became_faulty_leaves_its_pipeline_and_says_why(self, world):
        await world.filled("broken")
        world.write(pipeline("broken", chunking={"chunk_size": "many"}))
        info = await until(lambda: world.listed("broken"), lambda info: info.reason)
        assert (info.ready, "spec.chunking.chunk_size" in info.reason) == (True, True)
        assert "pipeline not taken over" in world.log()
        assert await world.found("broken") == ["holidays.md"]

    async def test_with_vectors_of_another_length_leaves_its_pipeline(self, world):
        await world.filled("short")
        world.write(pipeline("short", embeddings={"dimension": 64}))
        info = await until(lambda: world.listed("short"), lambda info: info.reason)
        assert (info.ready, info.dimension, "384 numbers" in info.reason) == (True, 384, True)
        assert await world.found("short") == ["holidays.md"]

    async def test_with_the_name_of_another_leaves_the_pipeline_and_names_both(self, world):
        await world.filled("twice")
        (world.config / "rag" / "again.rag.yaml").write_text(yaml.safe_dump(pipeline("twice")))
        info = await until(lambda: world.listed("twice"), lambda info: info.reason)
        assert (info.ready, "again.rag.yaml and twice.rag.yaml" in info.reason) == (True, True)

    async def test_that_is_gone_takes_the_pipeline_away(self, world):
        await world.filled("gone")
        world.remove("rag", "gone")
        assert (await refused(lambda: world.found("gone"), NotFound)).reason == "PIPELINE_NOT_FOUND"

    async def test_that_is_gone_leaves_a_pipeline_as_long_as_an_agent_names_it(self, world):
        await world.filled("needed")
        world.write(asks("needed"))
        await until(lambda: world.declared("asks-needed"))
        world.remove("rag", "needed")
        info = await until(lambda: world.listed("needed"), lambda info: info.reason)
        assert (info.ready, "'asks-needed'" in info.reason) == (True, True)
        assert await world.found("needed") == ["holidays.md"]
        assert (await world.declared("asks-needed")).ready
        world.remove("agent", "asks-needed")
        await refused(lambda: world.found("needed"), NotFound)

    async def test_that_is_repaired_lets_an_ingestion_go_on_that_waited(self, world):
        world.write(pipeline("late", vector_store=AWAY))
        begun = await until(lambda: world.ingestions.start(ME, "late", stream(HOLIDAYS)))
        await until(lambda: world.ingestions.get(ME, begun.name), lambda found: found.waiting)
        world.write(pipeline("late"))
        ended = await world.ingestions.wait(ME, begun.name, PATIENCE)
        assert (ended.state, ended.created) == (IngestionState.DONE, 1)


class TestAFolder:
    async def test_that_is_taken_away_leaves_what_it_declared_until_it_is_back(self, world):
        await world.filled("kept")
        rag = world.config / "rag"
        rag.rename(rag.with_name("rag-elsewhere"))
        await until(lambda: world.says("files not read again"))
        assert await world.found("kept") == ["holidays.md"]
        rag.with_name("rag-elsewhere").rename(rag)
        world.write(pipeline("back"))
        await until(lambda: world.listed("back"))


class TestAFileOfAnAgent:
    async def test_that_names_a_tool_that_is_not_there_leaves_the_agent_and_says_why(self, world):
        world.write(agent("helper", NOWHERE))
        await until(lambda: world.declared("helper"))
        world.write(agent("helper", NOWHERE, tools=["calculatr"]))
        record = await until(lambda: world.declared("helper"), lambda record: record.reason)
        assert (record.ready, "no tool is named 'calculatr'" in record.reason) == (True, True)
        assert record.manifest["spec"].get("tools", []) == []


class TestAnAgentWhosePipelineIsNotThere:
    async def test_says_so_until_it_is(self, world):
        world.write(asks("missing"))
        record = await until(lambda: world.declared("asks-missing"))
        assert (record.ready, "there is no pipeline 'missing'" in record.reason) == (False, True)
        world.write(pipeline("missing"))
        await until(lambda: world.declared("asks-missing"), lambda record: record.ready)

    async def test_can_be_declared_over_the_api_once_it_is(self, world):
        declared = asks("awaited")
        with pytest.raises(InvalidInput, match="there is no pipeline 'awaited'"):
            await world.agents.create(ME, declared)
        world.write(pipeline("awaited"))
        await until(lambda: world.agents.create(ME, declared))

    async def test_of_the_api_can_t_run_without_it(self, world):
        await world.filled("leaving")
        await world.agents.create(ME, asks("leaving"))
        world.remove("rag", "leaving")
        await refused(lambda: world.found("leaving"), NotFound)
        request = RunRequest("asks-leaving", "hello?")
        error = await refused(lambda: world.agents.run(ME, request), NotReady)
        assert (error.reason, "no pipeline 'leaving'" in error.message) == ("AGENT_NOT_READY", True)


@pytest.fixture(scope="module")
def apart(tmp_path_factory):
    """A configuration that places the router and rag in processes of their own."""
    world = World(tmp_path_factory.mktemp("apart"))
    world.ports = {name: free_port() for name in ("router", "rag")}
    places = {name: f"127.0.0.1:{port}" for name, port in world.ports.items()}
    runtime = {"apiVersion": "astromesh/v1", "kind": "RuntimeConfig"}
    runtime |= {"metadata": {"name": "apart"}, "spec": {"services": places}}
    (world.config / "runtime.yaml").write_text(yaml.safe_dump(runtime))
    world.write(pipeline("alone"))
    with ExitStack() as lives:

        def start(*names):
            args = services(world.folder, *names, port=world.ports.get(names[0], 0))
            return lives.enter_context(mesh_process(world.folder, args, KEYS))

        yield world, start


async def test_services_in_processes_of_their_own(apart):
    """One after the other: rag strictly alone, then with a router, then with agents."""
    world, start = apart
    async with grpc.aio.insecure_channel(start("rag").address) as rag:
        world.reach(rag, rag)
        await rag_alone(world)
        begun = await world.ingestions.start(ME, "alone", stream(HOLIDAYS))
        await until(lambda: world.ingestions.get(ME, begun.name), lambda found: found.waiting)
        start("router")
        world.write(pipeline("alone", retrieval={"top_k": 4}))  # so that it waits no longer
        ended = await world.ingestions.wait(ME, begun.name, PATIENCE)
        assert (ended.state, ended.created) == (IngestionState.DONE, 1)
        assert await world.found("alone") == ["holidays.md"]
        await a_new_key_of_a_pipeline(world)
        async with grpc.aio.insecure_channel(start("agents", "memory", "tools").address) as near:
            world.reach(rag, near)
            await a_new_key_of_an_agent(world)


async def rag_alone(world):
    """Without a router it has no vectors, and says so; files are taken over all the same."""
    assert [each.name for each in await world.rag.pipelines(ME)] == ["alone"]
    assert [each.text for each in await world.rag.chunk(ME, "alone", "One. Two.")] == ["One. Two."]
    with pytest.raises(Unavailable, match="router"):
        await world.rag.ingest(ME, "alone", HOLIDAYS)
    world.write(pipeline("second"))
    await until(lambda: world.listed("second"))


async def a_new_key_of_a_pipeline(world):
    async with openai_server(Texts()) as model:
        said = {"provider": "openai_compat", "endpoint": model.endpoint, "model": "big"}
        world.write(pipeline("keyed", embeddings={**said, "api_key_env": "KEY_OF_PIPELINE"}))
        await until(lambda: world.rag.ingest(ME, "keyed", HOLIDAYS))
    assert model.requests[-1].headers["authorization"] == "Bearer for-pipelines"


async def a_new_key_of_an_agent(world):
    async with openai_server(Reply(("hi",))) as model:
        said = {"provider": "openai_compat", "endpoint": model.endpoint, "model": "m"}
        keyed = asks("alone", model={"primary": {**said, "api_key_env": "KEY_OF_AGENT"}})
        world.write(keyed)
        request = RunRequest("asks-alone", "how many days of holiday?")
        run = await until(lambda: world.agents.run(ME, request), lambda run: run.answer)
    assert run.answer == "hi"
    assert model.requests[-1].headers["authorization"] == "Bearer for-agents"
