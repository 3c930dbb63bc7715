"""The mesh as a user starts it, with one agent that asks the instant model."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.processes import await_ok, free_port, running

AGENT = """\
apiVersion: astromesh/v1
kind: Agent
metadata: {{name: bench, version: "1.0.0", namespace: bench}}
spec:
  identity: {{display_name: Bench, description: Asks the instant model once}}
  model:
    primary:
      provider: openai_compat
      model: instant
      endpoint: http://127.0.0.1:{port}/v1
      api_key: not-needed
  prompts:
    system: You answer in one sentence.
  orchestration: {{pattern: react, max_iterations: 5, timeout_seconds: 30}}
"""


@dataclass(frozen=True, slots=True)
class Mesh:
    http_port: int
    grpc_port: int
    pid: int


def write_config(folder: Path, model_port: int) -> Path:
    """A config folder with the agent `bench`, which both sides understand."""
    config = folder / f"config-{model_port}"
    (config / "agents").mkdir(parents=True, exist_ok=True)
    (config / "agents" / "bench.agent.yaml").write_text(AGENT.format(port=model_port))
    return config


@contextmanager
def mesh(
    config: Path, folder: Path, *, start: Sequence[str | Path] = (), arguments: Sequence[str] = ()
) -> Iterator[Mesh]:
    """`start` is the program in the place of `astromesh`, for one that also watches itself."""
    http_port, grpc_port = free_port(), free_port()
    program: Sequence[str | Path] = start or [Path(sys.executable).with_name("astromesh")]
    options: list[str | Path] = [
        "up",
        "--no-hello",
        "--config",
        config,
        "--state",
        folder / "state",
        "--log-format",
        "json",
    ]
    ports = ["--http-port", str(http_port), "--grpc-port", str(grpc_port)]
    log = folder / "mesh.log"
    with running([*program, *options, *ports, *arguments], log) as process:
        await_ok(f"http://127.0.0.1:{http_port}/v1/health", process, log)
        yield Mesh(http_port, grpc_port, process.pid)
