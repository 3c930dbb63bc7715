"""A mesh with budgets, on all of its faces."""

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import httpx
import pytest_asyncio
import yaml
from astromesh.agents.v1 import agent_service_pb2 as agents_pb
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from astromesh.router.v1 import router_service_pb2_grpc as router_grpc
from astromesh.router.v1 import spending_pb2 as router_pb
from grpc_status import rpc_status

from tests.mesh.mesh_process import command, mesh_process
from tests.mesh.program import invoked
from tests.patience import PATIENCE
from tests.scripted.openai_server import openai_server

GRPCURL = Path(sys.executable).parent / "grpcurl"
PRICED = {"name": "m", "price": {"input": 1000, "output": 5000}}


def manifest(kind: str, name: str, spec: dict) -> dict:
    return {
        "apiVersion": "astromesh/v1",
        "kind": kind,
        "metadata": {"name": name, "version": "1"},
        "spec": spec,
    }


def asks(provider: str, **spec) -> dict:
    primary = {"provider": provider, "model": "m", "parameters": {"max_tokens": 10}}
    return {"model": {"primary": primary}, **spec}


AGENTS = {
    "spender": asks("company"),
    "looping": asks("company", tools=["calculator"]),
    "free": asks("company"),
    "warned": asks("company"),
    "unpriced": asks("nobody-knows"),
}
BUDGETS = {
    "spender-monthly": {
        "match": {"agent": "spender"},
        "window": "month",
        "limit": {"usd": 0.09},
    },
    "one-run": {"match": {"agent": "loop*"}, "window": "run", "limit": {"tokens": 400}},
    "needs-a-price": {"match": {"agent": "unpriced"}, "window": "day", "limit": {"usd": 100}},
    "soft": {
        "match": {"agent": "warned"},
        "window": "month",
        "limit": {"usd": 0.001},
        "action": "warn",
    },
}


def write_config(folder: Path, endpoint: str, budgets: dict, **runtime) -> Path:
    config = folder / "config"
    (config / "agents").mkdir(parents=True)
    providers = {
        "company": {"type": "openai_compat", "endpoint": endpoint, "models": [PRICED]},
        "nobody-knows": {"type": "openai_compat", "endpoint": endpoint, "models": ["m"]},
    }
    files = {
        "providers.yaml": [manifest("ProviderConfig", "p", {"providers": providers})],
        "budgets.yaml": [manifest("Budget", name, spec) for name, spec in budgets.items()],
        "runtime.yaml": [manifest("RuntimeConfig", "r", runtime)],
    } | {
        f"agents/{name}.agent.yaml": [manifest("Agent", name, spec)]
        for name, spec in AGENTS.items()
    }
    for name, documents in files.items():
        (config / name).write_text(yaml.safe_dump_all(documents))
    return config


class Reached:
    """A mesh that runs, on all of its faces."""

    def __init__(self, mesh, http, channel, model) -> None:
        self.mesh, self.http, self.model = mesh, http, model
        self.agents = agents_grpc.AgentServiceStub(channel)
        self.router = router_grpc.RouterServiceStub(channel)

    async def run(self, agent: str, **more):
        return await self.agents.RunAgent(
            agents_pb.RunAgentRequest(agent=agent, query="hi", **more)
        )

    async def rest(self, path: str, **query):
        answer = await self.http.get(path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def grpcurl(self, method: str, asked: dict):
        service = f"astromesh.router.v1.RouterService/{method}"
        words = ["-plaintext", "-d", json.dumps(asked), self.mesh.address, service]
        process = await asyncio.create_subprocess_exec(
            GRPCURL, *words, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        return json.loads(out)

    async def cli(self, *words: str):
        words = (*words, "-o", "json", "--address", self.mesh.address)
        done = await asyncio.to_thread(invoked, *words)
        assert done.code == 0, done.err
        return json.loads(done.out)

    async def counter(self, name: str):
        answer = await self.router.ListBudgets(router_pb.ListBudgetsRequest(budget=name))
        (counter,) = answer.counters
        return counter


@asynccontextmanager
async def reached(folder: Path, model, *options: str):
    with mesh_process(folder, command(folder, *options)) as mesh:
        async with (
            httpx.AsyncClient(base_url=mesh.url, timeout=PATIENCE, trust_env=False) as http,
            grpc.aio.insecure_channel(mesh.address) as channel,
        ):
            yield Reached(mesh, http, channel, model)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mesh")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def model(folder):
    async with openai_server() as server:
        write_config(folder, server.endpoint, BUDGETS)
        yield server


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(folder, model):
    async with reached(folder, model) as found:
        yield found


def details_of(error: grpc.aio.AioRpcError, kind):
    """The one detail of that type."""
    found = kind()
    status = rpc_status.from_call(error)
    assert any(detail.Unpack(found) for detail in status.details)
    return found


async def refused(mesh: Reached, agent: str) -> grpc.aio.AioRpcError:
    """Run until a budget says no."""
    for _ in range(10):
        try:
            await mesh.run(agent)
        except grpc.aio.AioRpcError as error:
            return error
    raise AssertionError("nobody was refused")
