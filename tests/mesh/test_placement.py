"""The same services in three processes: agents, the router, and memory with tools."""

import asyncio
from contextlib import ExitStack, aclosing, contextmanager
from pathlib import Path
from typing import ClassVar

import grpc
import pytest
import yaml

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.memory import SessionKey
from servers.domain.run_events import TextDelta
from servers.domain.runs import RunRequest, RunState
from servers.kernel.errors import InvalidInput, Unavailable
from servers.memory.remote import RemoteMemory
from tests.mesh.mesh_process import mesh_process, services
from tests.patience import PATIENCE, PROMPTLY
from tests.ports import free_port
from tests.running import agent
from tests.scripted.http_server import Call, Reply, Then, refuses
from tests.scripted.openai_server import openai_server

ME = Caller()
MEMORY = {"conversational": {"backend": "sqlite", "strategy": "sliding_window", "max_turns": 4}}
ADD = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])
TOOLS = [{"name": "calculator"}]


class Placed:
    """Three processes on one configuration, each of which can be stopped and started again."""

    PARTS: ClassVar = {"router": ("router",), "memory": ("memory", "tools"), "agents": ("agents",)}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {part: free_port() for part in self.PARTS}
        self.lives: dict[str, ExitStack] = {}
        address = {part: f"127.0.0.1:{port}" for part, port in self.ports.items()}
        places = {"router": address["router"], "agents": address["agents"]}
        places |= dict.fromkeys(("memory", "tools"), address["memory"])
        (folder / "config" / "agents").mkdir(parents=True)
        (folder / "config" / "runtime.yaml").write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "astromesh/v1",
                    "kind": "RuntimeConfig",
                    "metadata": {"name": "placed"},
                    "spec": {"services": places},
                }
            )
        )

    def start(self, part: str) -> None:
        args = services(self.folder, *self.PARTS[part], port=self.ports[part])
        self.lives[part] = life = ExitStack()
        life.enter_context(mesh_process(self.folder, args))

    def stop(self, part: str) -> None:
        self.lives.pop(part).close()


@contextmanager
def placed_in(folder: Path):
    placed = Placed(folder)
    try:
        for part in placed.PARTS:
            placed.start(part)
        yield placed
    finally:
        for part in list(placed.lives):
            placed.stop(part)


@pytest.fixture(scope="module")
def placed(tmp_path_factory):
    with placed_in(tmp_path_factory.mktemp("placed")) as placed:
        yield placed


@pytest.fixture
async def agents(placed):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{placed.ports['agents']}") as channel:
        yield RemoteAgents(channel)


@pytest.fixture
async def memory(placed):
    async with grpc.aio.insecure_channel(f"127.0.0.1:{placed.ports['memory']}") as channel:
        yield RemoteMemory(channel)


async def back(ask):
    """The answer of a mesh that finds its parts again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await ask()
            except Unavailable:
                await asyncio.sleep(0.05)


@pytest.fixture
async def helper(agents):
    """Declares `helper` on a model server."""

    async def declare(model, session="s", **spec):
        declared = agent("helper", model.endpoint, **spec)
        await back(lambda: agents.update(ME, declared, allow_missing=True))
        return RunRequest("helper", "hello?", session=session)

    return declare


async def ended(agents, run_id):
    async with aclosing(agents.events(ME, run_id)) as events:
        return [event async for event in events][-1].payload.run


async def test_a_run_uses_the_services_of_other_processes(agents, memory, helper):
    async with openai_server(ADD, Reply(("It is 5",))) as model:
        run = await agents.run(ME, await helper(model, "five", tools=TOOLS, memory=MEMORY))
    turns = (await memory.turns(SessionKey("default", "helper", "five"))).turns
    assert (run.state, run.answer) == (RunState.COMPLETED, "It is 5")
    assert model.requests[1].body["messages"][-1]["content"] == "5"
    assert [turn.message.text for turn in turns] == ["hello?", "It is 5"]


async def test_what_a_model_says_arrives_while_it_speaks(agents, helper):
    async with (
        openai_server(Reply(("Once",), then=Then.HANG)) as model,
        aclosing(agents.stream(ME, await helper(model))) as events,
    ):
        async for event in events:
            if isinstance(event.payload, TextDelta):
                break
    assert event.payload.text == "Once"


async def test_an_error_crosses_the_processes_as_it_is(agents, helper):
    async with openai_server(refuses(400, "bad prompt")) as model:
        with pytest.raises(InvalidInput, match="bad prompt") as failed:
            await agents.run(ME, await helper(model))
    assert failed.value.reason == "PROVIDER_REFUSED"


async def test_when_the_caller_leaves_the_provider_is_left_too(agents, helper):
    async with openai_server(Reply(("Once",), then=Then.HANG)) as model:
        async with aclosing(agents.stream(ME, await helper(model))) as events:
            event = await anext(events)
            await asyncio.wait_for(model.asked.wait(), PATIENCE)
        await asyncio.wait_for(model.left.wait(), PROMPTLY)
        assert (await ended(agents, event.run_id)).state is RunState.CANCELLED


async def test_a_cancelled_run_leaves_its_provider(agents, helper):
    async with openai_server(Reply(("Once",), then=Then.HANG)) as model:
        run = await agents.create_run(ME, await helper(model))
        await asyncio.wait_for(model.asked.wait(), PATIENCE)
        cancelled = await agents.cancel(ME, run.id)
        await asyncio.wait_for(model.left.wait(), PROMPTLY)
    assert cancelled.state is RunState.CANCELLED


@pytest.fixture
def without(placed):
    """Stops a part for a while."""

    @contextmanager
    def stopped(part):
        placed.stop(part)
        try:
            yield
        finally:
            placed.start(part)

    return stopped


@pytest.mark.parametrize("part", ["router", "memory"])
async def test_a_service_that_is_gone_is_named_until_it_is_back(agents, helper, without, part):
    async with openai_server() as model:
        work = await helper(model, memory=MEMORY)
        with without(part), pytest.raises(Unavailable, match=part) as failed:
            await agents.run(ME, work)
        run = await back(lambda: agents.run(ME, work))
    assert (failed.value.reason, failed.value.facts["service"]) == ("NOT_SERVING", part)
    assert run.state is RunState.COMPLETED


async def test_of_tools_that_are_gone_the_model_is_told(agents, helper, without):
    async with openai_server(Reply(("hi",)), ADD, Reply(("sorry",))) as model:
        work = await helper(model, tools=TOOLS)
        await agents.run(ME, work)
        with without("memory"):
            run = await agents.run(ME, work)
    assert run.answer == "sorry"
    assert "tools" in model.requests[2].body["messages"][-1]["content"]
