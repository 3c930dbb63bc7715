"""What a newcomer sees when the mesh is up: where it listens, and lines to paste."""

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from servers.domain.agents import AgentRecord

_QUESTION = "Tell me a short story about a lighthouse."
_METHOD = "astromesh.agents.v1.AgentService/StreamAgent"


@dataclass(frozen=True, slots=True)
class Listening:
    grpc: str  # host:port
    http: str  # the address of REST; empty where there is none
    state_dir: Path


def banner(where: Listening, agents: Sequence[AgentRecord], seconds: float) -> str:
    lines = [f"astromesh {version('astromesh-grpc')} is ready ({seconds:.1f} s)"]
    if where.http:
        lines.append(f"  REST, SSE, gRPC-Web  {where.http}  (GET /v1/health, /v1/agents, ...)")
    lines.append(f"  gRPC                 {where.grpc}  (with reflection)")
    lines.append(f"  state                {where.state_dir}")
    if agents:
        names = ", ".join(agent.name for agent in agents if agent.ready)
        lines.append(f"  agents               {names or 'none is ready'}")
    lines += [f"  not ready            {a.name}: {a.reason}" for a in agents if not a.ready]
    if ready := [agent.name for agent in agents if agent.ready]:
        agent = "assistant" if "assistant" in ready else ready[0]
        lines += ["", "Paste one of these into another terminal:", *_lines_to_paste(where, agent)]
    return "\n".join([*lines, "", "Ctrl-C stops everything."])


def _lines_to_paste(where: Listening, agent: str) -> list[str]:
    lines = []
    if where.http:
        body = shlex.quote(json.dumps({"query": _QUESTION}))
        lines.append(
            f"  curl -N {where.http}/v1/agents/{agent}:stream -H 'accept: text/event-stream' "
            f"-H 'content-type: application/json' -d {body}"
        )
    body = shlex.quote(json.dumps({"agent": agent, "query": _QUESTION}))
    lines.append(f"  {_command('grpcurl')} -plaintext -d {body} {where.grpc} {_METHOD}")
    lines.append(f"  {_command('astromesh')} run {agent} {shlex.quote(_QUESTION)}{_option(where)}")
    return lines


def _option(where: Listening) -> str:
    return "" if where.grpc == "127.0.0.1:50051" else f" --address {where.grpc}"


def _command(name: str) -> str:
    """How to call a program of this environment: by name if the shell finds it, else by path."""
    beside = Path(sys.executable).parent / name
    if not beside.exists() or shutil.which(name) == str(beside):
        return name
    here = Path.cwd()
    return str(beside.relative_to(here) if beside.is_relative_to(here) else beside)
