"""A real Chroma server in a folder of its own, for tests."""

import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.patience import PATIENCE
from tests.ports import free_port

_PROGRAM = Path(sys.executable).parent / "chroma"


class ChromaServer:
    """Made by `chroma_server`. It can be killed and started again, and remembers everything."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        data = str(self._folder / "data")
        words = ["run", "--host", "127.0.0.1", "--port", str(self._port), "--path", data]
        with (self._folder / "log").open("ab") as log:
            command = [_PROGRAM, *words]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        log = self._folder / "log"
        while True:
            assert self._process is not None
            assert self._process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            try:
                with urllib.request.urlopen(f"{self.address}/api/v2/heartbeat", timeout=1):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.05)

    @contextmanager
    def hung(self) -> Iterator[None]:
        """It takes connections meanwhile, and answers nobody."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(PATIENCE)
            self._process = None


@contextmanager
def chroma_server(folder: Path) -> Iterator[ChromaServer]:
    server = ChromaServer(folder, free_port())
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def chroma_server_in(folder: Path) -> Iterator[str]:
    """Its address."""
    with chroma_server(folder) as server:
        yield server.address
