"""Starts a mesh for a test: real services over a folder that the test has filled."""

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import yaml

from servers.agents.remote import RemoteAgents
from servers.config import load_config
from servers.domain.services import Agents
from servers.mesh import Mesh, open_mesh, serve_mesh


def agent(name: str, endpoint: str, **spec: Any) -> dict[str, Any]:
    """The manifest of an agent on a scripted OpenAI-compatible server."""
    return {
        "apiVersion": "astromesh/v1",
        "kind": "Agent",
        "metadata": {"name": name, "version": "1.0.0"},
        "spec": {
            "model": {"primary": {"provider": "openai_compat", "endpoint": endpoint, "model": "m"}},
            **spec,
        },
    }


def write_agents(folder: Path, *manifests: Mapping[str, Any]) -> Path:
    """A configuration folder with these agents."""
    agents = folder / "config" / "agents"
    agents.mkdir(parents=True, exist_ok=True)
    for manifest in manifests:
        path = agents / f"{manifest['metadata']['name']}.agent.yaml"
        path.write_text(yaml.safe_dump(dict(manifest), sort_keys=False))
    return folder / "config"


@contextlib.asynccontextmanager
async def mesh_of(
    folder: Path, *manifests: Mapping[str, Any], env: Mapping[str, str] | None = None
) -> AsyncIterator[Mesh]:
    """A mesh without sockets."""
    config_dir = write_agents(folder, *manifests)
    config = load_config(config_dir, folder / "state", env or {})
    async with open_mesh(config) as mesh:
        yield mesh


@contextlib.asynccontextmanager
async def in_process(mesh: Mesh) -> AsyncIterator[Agents]:
    yield mesh.agents


@contextlib.asynccontextmanager
async def over_the_wire(mesh: Mesh) -> AsyncIterator[Agents]:
    async with (
        serve_mesh(mesh, port=0) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        yield RemoteAgents(channel)
