"""Brings agents to what YAML files say."""

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from astromesh.agents.v1 import agent_pb2 as pb
from astromesh.agents.v1.agent_pb2 import Agent as WireAgent
from astromesh.agents.v1.agent_service_pb2_grpc import AgentServiceStub
from google.protobuf.json_format import ParseDict

from servers.agents.manifest import Agent
from servers.cli.client import PATIENCE, connected
from servers.kernel.errors import InvalidInput
from servers.kernel.manifest import parse
from servers.kernel.yaml_text import Document, read_yaml

_OF_THE_MESH = ("status", "etag")  # in what `agents get` prints, not part of a declaration


async def apply(address: str, files: Sequence[Path], dry_run: bool) -> None:
    """Everything is checked before anything is sent."""
    agents = _in_order([agent for file in files for agent in _agents(file)])
    async with connected(address) as channel:
        for agent in agents:
            await _send(AgentServiceStub(channel), agent, dry_run)


async def _send(stub: AgentServiceStub, agent: WireAgent, dry_run: bool) -> None:
    request = pb.UpdateAgentRequest(agent=agent, allow_missing=True, validate_only=dry_run)
    stored = await stub.UpdateAgent(request, timeout=PATIENCE)
    done = "valid" if dry_run else "applied"
    print(f"{done} {stored.metadata.name} {stored.metadata.version}".rstrip())


def _in_order(agents: Sequence[WireAgent]) -> list[WireAgent]:
    """Those first that others have as sub-agents: an agent that nobody knows can't be one."""
    named = {agent.metadata.name: agent for agent in agents}
    ordered: dict[str, WireAgent] = {}
    begun: set[str] = set()

    def add(name: str) -> None:
        if name in named and name not in begun:
            begun.add(name)
            for tool in named[name].spec.tools:
                if tool.type == "agent":
                    add(tool.agent or tool.name)
            ordered[name] = named[name]

    for agent in agents:
        add(agent.metadata.name)
    if len(ordered) == len(agents):
        return list(ordered.values())
    return list(agents)  # two of one name: the mesh tells which is the last


def _agents(file: Path) -> Iterator[WireAgent]:
    for document in read_yaml(_text(file), str(file)):
        etag = _etag(document)
        manifest = parse(Agent, _declaration(document), os.environ)
        yield ParseDict(manifest.canonical(), WireAgent(etag=etag))


def _text(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    try:
        return file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"can't read {str(file)!r}: {error.strerror}") from error


def _etag(document: Document) -> str:
    return str(document.value.get("etag", "")) if isinstance(document.value, dict) else ""


def _declaration(document: Document) -> Document:
    if not isinstance(document.value, dict):
        return document
    kept = {key: value for key, value in document.value.items() if key not in _OF_THE_MESH}
    return replace(document, value=kept)
