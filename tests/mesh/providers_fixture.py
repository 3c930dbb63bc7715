"""A started mesh whose configuration declares every type of provider over HTTP, one agent each.

Only the model servers behind them are scripted.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import httpx
import yaml
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from astromesh.router.v1 import router_service_pb2_grpc as router_grpc

from tests.mesh.mesh_process import mesh_process
from tests.patience import PATIENCE
from tests.scripted.azure_server import azure_server
from tests.scripted.http_server import Reply, ScriptedServer
from tests.scripted.llamacpp_server import llamacpp_server
from tests.scripted.ollama_server import ollama_server
from tests.scripted.openai_server import openai_server
from tests.scripted.tgi_server import tgi_server
from tests.scripted.vllm_server import vllm_server

DATED = {"type": "azure_openai", "options": {"api_version": "2024-10-21"}}
# name of a provider -> how it is declared, and what stands behind it
DECLARED: Mapping[str, tuple[dict[str, Any], Any]] = {
    "openai": ({"type": "openai", "api_key_env": "OPENAI_API_KEY"}, openai_server),
    "compatible": ({"type": "openai_compat", "api_key_env": "COMPANY_KEY"}, openai_server),
    "azure": ({"type": "azure_openai"}, azure_server),
    "azure-dated": (DATED, azure_server),
    "vllm": ({"type": "vllm", "api_key_env": "COMPANY_KEY"}, vllm_server),
    "llamacpp": (
        {"type": "llamacpp", "api_key_env": "COMPANY_KEY"},
        partial(llamacpp_server, vision=True),
    ),
    "tgi": ({"type": "hf_tgi", "api_key_env": "COMPANY_KEY"}, tgi_server),
    "ollama": ({"type": "ollama", "api_key_env": "COMPANY_KEY"}, ollama_server),
    "blind": ({"type": "llamacpp"}, llamacpp_server),  # its model sees no pictures
}
KEYS = {"OPENAI_API_KEY": "key-of-openai", "COMPANY_KEY": "key-of-ours"}
KEYS["AZURE_OPENAI_API_KEY"] = "key-of-azure"  # named by no provider: it is the type's own
PROBED = 0.2  # seconds between two looks at a provider's health


@dataclass(frozen=True)
class Providers:
    """The mesh as its users reach it, and the servers that it asks."""

    servers: Mapping[str, ScriptedServer]
    channel: grpc.aio.Channel
    http: httpx.AsyncClient

    @property
    def agents(self) -> agents_grpc.AgentServiceStub:
        return agents_grpc.AgentServiceStub(self.channel)

    @property
    def router(self) -> router_grpc.RouterServiceStub:
        return router_grpc.RouterServiceStub(self.channel)

    def scripted(self, name: str, *replies: Reply) -> ScriptedServer:
        """The server behind a provider, from now on with these answers."""
        server = self.servers[name]
        server.replies[:] = replies or [Reply()]
        server.requests.clear()
        return server


@asynccontextmanager
async def mesh_with_every_provider(folder: Path) -> AsyncIterator[Providers]:
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(server())
            for name, (_, server) in DECLARED.items()
        }
        _write(folder / "config", servers)
        mesh = stack.enter_context(mesh_process(folder, env=KEYS))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(mesh.address))
        client = httpx.AsyncClient(base_url=mesh.url, timeout=PATIENCE, trust_env=False)
        yield Providers(servers, channel, await stack.enter_async_context(client))


def _write(config: Path, servers: Mapping[str, ScriptedServer]) -> None:
    (config / "agents").mkdir(parents=True)
    providers = {
        name: {
            **declared,
            "endpoint": servers[name].endpoint,
            "models": ["m"],
            "health_check_interval": PROBED,
        }
        for name, (declared, _) in DECLARED.items()
    }
    _dump(config / "providers.yaml", "ProviderConfig", "providers", {"providers": providers})
    for name in DECLARED:
        parameters = {"max_tokens": 50, "repetition_penalty": 1.1}
        primary = {"provider": name, "model": "m", "parameters": parameters}
        spec = {"model": {"primary": primary}, "tools": ["calculator"]}
        _dump(config / "agents" / f"{name}.agent.yaml", "Agent", name, spec)


def _dump(path: Path, kind: str, name: str, spec: Any) -> None:
    head = {"apiVersion": "astromesh/v1", "kind": kind}
    metadata = {"name": name, "version": "1.0.0"}
    path.write_text(yaml.safe_dump({**head, "metadata": metadata, "spec": spec}))
