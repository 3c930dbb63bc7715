"""What the tests of what runs remember share: an agent with a semantic memory."""

import asyncio
import contextlib
import sqlite3

import pytest
import yaml

from servers.config import load_config
from servers.domain.caller import Caller
from servers.domain.runs import RunRequest
from servers.domain.semantic import MemoryQuery, Reader
from servers.mesh import open_mesh
from tests.patience import PATIENCE
from tests.running import agent, in_process, over_the_wire, write_agents
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

ADA, BOB = Caller("acme", "ada"), Caller("acme", "bob")
ANSWER = "The sailing boat of the company is moored in the harbour of Rotterdam until the spring."
ASKED = "Where does the sailing boat of the company spend the winter?"
ALL = {"policy": "answers", "min_tokens": 1}


def system(request) -> str:
    return "".join(m["content"] for m in request.body["messages"] if m["role"] == "system")


def asks(query: str = ASKED, session: str = "s1") -> RunRequest:
    return RunRequest("helper", query, session=session)


def reader(caller: Caller, session: str = "") -> Reader:
    return Reader(caller.tenant, "helper", caller.principal, session)


async def kept(mesh, caller: Caller = ADA, count: int = 1, session: str = "", collection=""):
    """His memories, once there are so many."""
    async with asyncio.timeout(PATIENCE):
        while True:
            query = MemoryQuery(collection=collection)
            page = await mesh.memory.semantic.memories(reader(caller, session), query)
            if len(page.memories) >= count:
                return page.memories
            await asyncio.sleep(0.02)


async def told(agents, caller, run, kind) -> list:
    events = [event.payload async for event in agents.events(caller, run.id)]
    return [payload for payload in events if isinstance(payload, kind)]


async def nothing_left(tmp_path) -> None:
    """Until all that there was to learn has been looked at."""
    path = tmp_path / "state" / "lessons.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        async with asyncio.timeout(PATIENCE):
            while database.execute("SELECT 1 FROM lesson").fetchone():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def tried_once(tmp_path) -> None:
    """Until what there is to learn could not be stored."""
    path = tmp_path / "state" / "lessons.db"
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        async with asyncio.timeout(20):
            while not database.execute("SELECT 1 FROM lesson WHERE tries = 1").fetchone():  # noqa: ASYNC110
                await asyncio.sleep(0.02)


def hasten(tmp_path) -> None:
    """While no mesh has the file: what waits for its next try is due."""
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "lessons.db")) as database:
        database.execute("UPDATE lesson SET due_at = 0")
        database.commit()


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(tmp_path):
    """`helper` with this semantic memory, and a runtime.yaml with these collections."""

    @contextlib.asynccontextmanager
    async def started(
        semantic, *replies, collections=None, reached=in_process, models=None, **spec
    ):
        async with contextlib.AsyncExitStack() as stack:
            model = await stack.enter_async_context(openai_server(*(replies or [Reply((ANSWER,))])))
            memory = {"semantic": semantic, **spec.pop("memory", {})}
            manifest = agent("helper", model.endpoint, memory=memory, **spec)
            if models:
                manifest["spec"]["model"] = models(model)
            config = write_agents(tmp_path, manifest)
            runtime = {
                "apiVersion": "astromesh/v1",
                "kind": "RuntimeConfig",
                "metadata": {"name": "r"},
                "spec": {"memory": {"collections": collections or {}}},
            }
            (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))
            found = load_config(config, tmp_path / "state", {})
            mesh = await stack.enter_async_context(open_mesh(found))
            agents = await stack.enter_async_context(reached(mesh))
            yield agents, model, mesh

    return started


AWAY = {"away": {"backend": "qdrant", "url": "http://127.0.0.1:1"}}
