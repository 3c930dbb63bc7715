"""The published package `astromesh`, in an environment of its own, at its best.

One uvicorn process on uvloop and httptools, without reloading and access log, logging
warnings only. It needs Python 3.12 or newer, which is looked for and never downloaded; the
environment variable BENCH_PYTHON names one.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import CalledProcessError

from bench.environments import made
from bench.processes import await_ok, free_port, running
from bench.report import console

VERSION = "0.74.1"
STORES = [
    f"astromesh[faiss,postgres,sqlite]=={VERSION}",
    *(
        "redis==8.1.0",
        "chromadb==1.5.9",
        "langchain-chroma==1.1.0",
        "onnxruntime==1.32.0",
        "tokenizers==0.23.3",
    ),
]
SKIPPED = (
    "upstream is skipped: no Python 3.12 or newer was found; "
    "BENCH_PYTHON=/path/to/python3.12 names one"
)


@dataclass(frozen=True, slots=True)
class Upstream:
    port: int
    pid: int
    python: Path


def installed() -> Path | None:
    """The interpreter that has the package; None where no Python is new enough."""
    base = base_python()
    return made(f"upstream-{VERSION}", base, [f"astromesh=={VERSION}"]) if base else None


def stores_peer() -> Path | None:
    """The interpreter that has the package with what its stores need, and LangChain's Chroma."""
    base = base_python()
    if base is None:
        console.print(SKIPPED)
        return None
    try:
        return made(f"upstream-stores-{VERSION}", base, STORES)
    except CalledProcessError as error:
        console.print(f"upstream is skipped: {error}")
        return None


@contextmanager
def upstream(python: Path, config: Path, folder: Path) -> Iterator[Upstream]:
    """`config` holds the same agents/*.agent.yaml that the mesh gets."""
    port, log = free_port(), folder / "upstream.log"
    command: list[str | Path] = [python, "-m", "uvicorn", "astromesh.api.main:app"]
    options = ["--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    where = ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    environment = {"ASTROMESH_CONFIG_DIR": str(config), "ASTROMESH_LOG_LEVEL": "WARNING"}
    started = running([*command, *options, *where], log, environment=environment, folder=folder)
    with started as process:
        await_ok(f"http://127.0.0.1:{port}/v1/health", process, log)
        yield Upstream(port, process.pid, python)


def base_python() -> str | None:
    names = ("python3.12", "python3.13", "python3.14", "python3")
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [
        os.environ.get("BENCH_PYTHON"),
        *(shutil.which(name) for name in names),
        *(str(path) for path in sorted(pyenv.glob("3.1[2-9]*/bin/python"))),
    ]
    return next((each for each in candidates if each and _new_enough(each)), None)


def _new_enough(python: str) -> bool:
    check = "import sys; sys.exit(sys.version_info < (3, 12))"
    try:
        done = subprocess.run([python, "-c", check], capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
