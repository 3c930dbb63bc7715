"""Tools of another process that breaks off: what callers and models hear of it."""

import asyncio
from contextlib import asynccontextmanager

import grpc
import pytest
import yaml
from astromesh.tools.v1 import tool_service_pb2_grpc

from servers.config import load_config
from servers.domain.caller import Caller
from servers.domain.run_events import ToolReturned
from servers.domain.runs import RunRequest
from servers.domain.tools import Outcome, ToolRequest
from servers.kernel.errors import Unavailable
from servers.kernel.status import StatusInterceptor
from servers.mesh import open_mesh
from servers.tools.adapters.function import FunctionTool
from servers.tools.declare import tool
from servers.tools.remote import RemoteTools
from servers.tools.service import ToolService
from servers.tools.servicer import ToolServicer
from servers.tools.threads import Threads
from tests.patience import PATIENCE
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

ME = Caller("acme", "ada")


class Elsewhere:
    """A tool service on a socket, whose tools say when they are at work and never end."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.server = grpc.aio.server(interceptors=[StatusInterceptor()])
        found = [FunctionTool(each, Threads(1)) for each in (self._pay(), self._look())]
        servicer = ToolServicer(ToolService(found))
        tool_service_pb2_grpc.add_ToolServiceServicer_to_server(servicer, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"

    def _pay(self):
        async def pay() -> str:
            """Send money."""
            return await self._work()

        return pay

    def _look(self):
        @tool(idempotent=True)
        async def look() -> str:
            """Look at the account."""
            return await self._work()

        return look

    async def _work(self) -> str:
        self.called.set()
        await asyncio.Event().wait()
        return "done"

    async def break_off(self) -> None:
        """In the middle of a call."""
        async with asyncio.timeout(PATIENCE):
            await self.called.wait()
        await self.server.stop(None)


@asynccontextmanager
async def elsewhere():
    there = Elsewhere()
    await there.server.start()
    yield there
    await there.server.stop(None)


async def test_a_call_that_breaks_in_the_middle_may_have_taken_effect():
    async with elsewhere() as there, grpc.aio.insecure_channel(there.address) as channel:
        call = asyncio.create_task(RemoteTools(channel).call(ME, ToolRequest("pay", "{}")))
        await there.break_off()
        result = await call
    assert result.outcome is Outcome.UNKNOWN
    assert "unknown" in result.content


async def test_a_call_that_finds_nobody_did_not():
    async with elsewhere() as there, grpc.aio.insecure_channel(there.address) as channel:
        await there.server.stop(None)
        with pytest.raises(Unavailable) as caught:
            await RemoteTools(channel).call(ME, ToolRequest("pay", "{}"))
    assert caught.value.reason == "NOT_SERVING"


@pytest.mark.parametrize(("name", "outcome"), [("pay", Outcome.UNKNOWN), ("look", Outcome.ERROR)])
async def test_a_run_goes_on_and_knows_what_it_does_not_know(tmp_path, name, outcome):
    async with (
        elsewhere() as there,
        openai_server(Reply((), calls=[Call(name, "{}")]), Reply(("I see",))) as model,
    ):
        helper = agent("helper", model.endpoint, tools=[{"name": name}])
        places = {"services": {"tools": {"address": there.address}}}
        names = {"apiVersion": "astromesh/v1", "kind": "RuntimeConfig", "metadata": {"name": "r"}}
        folder = write_agents(tmp_path, helper)
        (folder / "runtime.yaml").write_text(yaml.safe_dump(names | {"spec": places}))
        here = ("agents", "router", "memory", "rag")
        async with open_mesh(load_config(folder, tmp_path / "state", {}, here)) as mesh:
            run = asyncio.create_task(mesh.agents.run(ME, RunRequest("helper", "hello?")))
            await there.break_off()
            ended = await run
            events = [event async for event in mesh.agents.events(ME, ended.id)]
    (returned,) = [e.payload for e in events if isinstance(e.payload, ToolReturned)]
    assert (ended.answer, returned.outcome) == ("I see", outcome)
