"""A mesh runs for weeks: what comes and goes leaves nothing behind."""

import asyncio
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import yaml

from servers.agents.manifest import Agent
from servers.agents.runs.memory.places import KnownPlaces
from servers.domain.caller import Caller
from servers.domain.rag import Document, PassageQuery
from servers.domain.run_events import TextDelta
from servers.domain.runs import RunRequest
from servers.domain.semantic import Forgetting, MemoryQuery, Reader, Remembered
from servers.domain.services import Agents
from servers.kernel.errors import AstromeshError, NotReady
from servers.mesh import Mesh
from tests.contract.rag_fixture import pipeline
from tests.faults.thinking import thinking
from tests.leaving import grown, sizes, uncollected
from tests.patience import until
from tests.running import agent, mesh_of, over_the_wire, write_agents
from tests.scripted.http_server import Asked, Call, Reply, ScriptedServer, Then

pytestmark = pytest.mark.asyncio(loop_scope="module")

MANY = 20
REPLIES = {
    "compute": Reply((), calls=[Call("calculator", '{"expression": "2+3"}')]),
    "break": Reply(("It is",), then=Then.CLOSE),
    "hang": Reply(("It is",), then=Then.HANG),
    "fail": Reply(status=500),
}


def think(asked: Asked) -> Reply:
    return REPLIES.get(str(asked.body["messages"][-1]["content"]), Reply(("It is ", "five.")))


def manifest(kind: str, **spec) -> str:
    head = {"apiVersion": "astromesh/v1", "kind": kind, "metadata": {"name": "m"}}
    return yaml.safe_dump({**head, "spec": spec})


def write_config(folder: Path, dsn: str, agents: list[dict]) -> None:
    config = write_agents(folder, *agents)
    runs = {"backend": "postgres", "dsn": dsn} if dsn else {}
    (config / "runtime.yaml").write_text(manifest("RuntimeConfig", runs=runs))
    patient = {"circuit_breaker": {"failure_threshold": 1_000_000}}
    (config / "providers.yaml").write_text(
        manifest("ProviderConfig", providers={}, routing=patient)
    )
    (config / "rag").mkdir()
    (config / "rag" / "handbook.rag.yaml").write_text(yaml.safe_dump(pipeline()))


@dataclass
class World:
    mesh: Mesh
    remote: Agents  # the same over the wire
    model: ScriptedServer

    async def ran(self, number: int, query: str = "add", agent: str = "helper") -> None:
        """Whatever comes of it; each with a principal and a session of its own."""
        request = RunRequest(agent, query, session=f"{agent}-{query}-{number}")
        with suppress(AstromeshError):
            await self.mesh.agents.run(Caller("acme", f"p{number}"), request)
        self.model.requests.clear()

    async def called(self, number: int) -> None:
        with suppress(AstromeshError):
            await self.remote.run(Caller(), RunRequest("helper", "break"))
        self.model.requests.clear()

    async def left(self, number: int) -> None:
        source = self.mesh.agents.stream(Caller(), RunRequest("helper", "hang"))
        async with aclosing(source) as events:
            async for event in events:
                if isinstance(event.payload, TextDelta):
                    break
        self.model.requests.clear()

    async def cancelled(self, number: int) -> None:
        run = await self.mesh.agents.create_run(Caller(), RunRequest("helper", "hang"))
        await self.mesh.agents.cancel(Caller(), run.id)
        self.model.requests.clear()

    async def remembered(self, number: int) -> None:
        memory, reader = self.mesh.memory.semantic, Reader("acme", "helper", f"p{number}")
        await memory.remember(reader, Remembered("Ada drinks green tea."))
        assert await memory.recall(reader, MemoryQuery("What does she drink?"))
        await memory.forget(reader, Forgetting(all=True))

    async def taken_in(self, number: int) -> None:
        me, rag = Caller("acme", f"p{number}"), self.mesh.rag
        text = b"The boat is moored in Rotterdam."
        await rag.ingest(me, "handbook", Document(f"d{number}.txt", text))
        assert await rag.query(me, PassageQuery("handbook", "Where is the boat?"))
        await rag.delete(me, "handbook", f"d{number}.txt")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("left")
    dsn = request.getfixturevalue("postgres").schema() if request.param == "postgres" else ""
    async with thinking(think) as model:
        memory = {"conversational": {"backend": "sqlite"}, "semantic": {}, "episodic": {}}
        agents = [
            agent("helper", model.endpoint, tools=[{"name": "calculator"}]),
            agent("learner", model.endpoint, memory=memory, knowledge={"pipeline": "handbook"}),
        ]
        write_config(folder, dsn, agents)
        async with mesh_of(folder) as mesh, over_the_wire(mesh) as remote:
            yield World(mesh, remote, model)


RUNS = {
    "runs": World.ran,
    "runs that call tools": lambda world, number: world.ran(number, "compute"),
    "runs that break": lambda world, number: world.ran(number, "break"),
    "runs that are left": World.left,
    "runs that are cancelled": World.cancelled,
}
WORK = RUNS | {
    "runs that remember": lambda world, number: world.ran(number, agent="learner"),
    "calls that break": World.called,
    "memories": World.remembered,
    "documents": World.taken_in,
}
CASES = [
    pytest.param(store, work, id=f"{name}, {store}")
    for store, kinds in (("sqlite", WORK), ("postgres", RUNS))
    for name, work in kinds.items()
]


@pytest.mark.parametrize(("world", "work"), CASES, indirect=["world"])
class TestWork:
    async def test_leaves_the_garbage_collector_nothing_to_find(self, world, work):
        """It looks at a mesh's older objects rarely: until then they would all be there."""
        await work(world, -1)
        with uncollected() as found:
            for number in range(3):
                await work(world, number)
            await asyncio.sleep(0)
        assert {type(each).__name__ for each in found} == set()

    async def test_is_forgotten_when_it_is_over(self, world, work):
        for number in range(-3, 0):
            await work(world, number)
        before = sizes(world.mesh)
        for number in range(MANY):
            await work(world, number)
        with suppress(TimeoutError):  # what is behind comes to its end
            await until(lambda: grown(before, sizes(world.mesh), by=MANY) == [])
        assert grown(before, sizes(world.mesh), by=MANY) == []


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
async def test_runs_whose_models_fail_leave_the_garbage_collector_nothing_to_find(world):
    await world.ran(-1, "fail")
    with uncollected() as found:
        for number in range(2):
            await world.ran(number, "fail")
    assert {type(each).__name__ for each in found} == set()


@pytest.mark.parametrize("world", ["sqlite"], indirect=True)
async def test_places_that_agents_named_are_forgotten(world):
    """Agents come and go, and what they name need not exist."""
    places = KnownPlaces(world.mesh.memory, lambda: 0.0)
    before = sizes(places)
    for number in range(1500):
        said = agent("a", "http://127.0.0.1:9", memory={"semantic": {"collection": f"c{number}"}})
        said["api_version"] = said.pop("apiVersion")
        with pytest.raises(NotReady):
            await places.check(Agent.model_validate(said))
    assert grown(before, sizes(places), by=1001) == []
