"""One mesh for all tests of this folder that don't need their own, and ways to reach it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import grpc
import httpx
import pytest
import yaml

from tests.contract.rag_fixture import pipeline
from tests.mesh.mesh_process import MeshProcess, mesh_process
from tests.patience import PATIENCE
from tests.running import agent
from tests.scripted.http_server import Reply, ScriptedServer
from tests.scripted.openai_server import openai_server

PROVIDERS = """
apiVersion: astromesh/v1
kind: ProviderConfig
metadata: {name: providers}
spec:
  providers:
    company: {type: openai_compat, endpoint: "http://127.0.0.1:9/v1", models: [big]}
"""

_numbers = count(1)


@dataclass(frozen=True)
class Declared:
    """An agent of the mesh, and the model server that it asks."""

    name: str
    model: ScriptedServer

    @property
    def path(self) -> str:
        return f"/v1/agents/{self.name}"


AnAgent = Callable[..., Awaitable[Declared]]


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshProcess]:
    folder = tmp_path_factory.mktemp("mesh")
    (folder / "config" / "agents").mkdir(parents=True)
    (folder / "config" / "providers.yaml").write_text(PROVIDERS)
    (folder / "config" / "rag").mkdir()
    (folder / "config" / "rag" / "handbook.rag.yaml").write_text(yaml.safe_dump(pipeline()))
    with mesh_process(folder) as mesh:
        yield mesh


@pytest.fixture
async def http(started: MeshProcess) -> AsyncIterator[httpx.AsyncClient]:
    """REST, through Envoy."""
    async with httpx.AsyncClient(base_url=started.url, timeout=PATIENCE, trust_env=False) as client:
        yield client


@pytest.fixture
async def channel(started: MeshProcess) -> AsyncIterator[grpc.aio.Channel]:
    """gRPC, straight to the mesh."""
    async with grpc.aio.insecure_channel(started.address) as direct:
        yield direct


@pytest.fixture
async def edge_channel(started: MeshProcess) -> AsyncIterator[grpc.aio.Channel]:
    """gRPC, through Envoy."""
    async with grpc.aio.insecure_channel(started.url.removeprefix("http://")) as through:
        yield through


@pytest.fixture
async def an_agent(http: httpx.AsyncClient) -> AsyncIterator[AnAgent]:
    """Declares an agent whose model says `replies`."""
    async with AsyncExitStack() as stack:

        async def declare(*replies: Reply, **spec: Any) -> Declared:
            model = await stack.enter_async_context(openai_server(*replies))
            name = f"agent-{next(_numbers)}"
            answer = await http.post("/v1/agents", json=agent(name, model.endpoint, **spec))
            assert answer.status_code == 200, answer.text
            return Declared(name, model)

        yield declare
