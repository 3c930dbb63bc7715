"""A mesh as its users have it: the program `astromesh` in a process of its own, with Envoy.

The test's own part is other people's model servers; everything else is real.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]

_PROGRAM = Path(sys.executable).parent / "astromesh"
_OURS = ("ASTROMESH_", "OTEL_")  # what the developer's own shell may say
_HTTP = re.compile(r"(http://127\.0\.0\.1:\d+)")
_GRPC = re.compile(r"gRPC +(127\.0\.0\.1:\d+)")


class MeshProcess:
    """A running mesh. Made by `mesh_process`."""

    def __init__(self, process: "subprocess.Popen[str]", folder: Path) -> None:
        self._process, self._log = process, folder / "log"
        self.state = folder / "state"
        self.url = self.address = ""

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_ready(self) -> None:
        """Read the banner to its end."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.url = found[1] if (found := _HTTP.search(line)) and not self.url else self.url
            self.address = found[1] if (found := _GRPC.search(line)) else self.address
            if "Ctrl-C" in line:
                return
        raise AssertionError(f"the mesh ended with {self._process.wait()}: {self.log()}")

    def log(self) -> str:
        return self._log.read_text()

    def family(self) -> list[psutil.Process]:
        """The mesh and all its children."""
        mesh = psutil.Process(self.pid)
        return [mesh, *mesh.children(recursive=True)]

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> int:
        """Wait for the end; gives the exit code."""
        return await asyncio.to_thread(self._process.wait, PATIENCE)

    def stop(self) -> None:
        """SIGTERM, and SIGKILL to one that does not listen."""
        if self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
            self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would tell the mesh something."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
    return kept | {"PYTHONPATH": str(ROOT)} | more


def command(folder: Path, *options: str) -> list[str]:
    """`astromesh up` on the folders of a test, on ports that are free."""
    folders = ["--config", str(folder / "config"), "--state", str(folder / "state")]
    ports = ["--http-port", "0", "--grpc-port", "0"]
    return [str(_PROGRAM), "up", "--no-hello", *folders, *ports, *options]


def services(folder: Path, *names: str, port: int = 0) -> list[str]:
    """`python -m servers` for some services alone."""
    folders = ["--config", str(folder / "config"), "--state", str(folder / "state")]
    return [sys.executable, "-m", "servers", *names, *folders, "--grpc-port", str(port)]


@contextmanager
def mesh_process(
    folder: Path, args: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[MeshProcess]:
    """Start it and wait until it is ready; leaving stops it."""
    log = folder / "log"
    with log.open("a") as stderr:
        process = subprocess.Popen(
            args or command(folder),
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            env=environment(**(env or {})),
            cwd=ROOT,
        )
    mesh = MeshProcess(process, folder)
    try:
        mesh.wait_ready()
        yield mesh
    finally:
        mesh.stop()


def gone(processes: Sequence[psutil.Process]) -> bool:
    """Whether none of them lives any more."""
    return not psutil.wait_procs(processes, timeout=PATIENCE)[1]


KILL = signal.SIGKILL
