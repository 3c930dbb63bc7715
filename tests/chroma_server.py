"""A real Chroma server in a folder of its own, for tests."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

PATIENCE = 60  # seconds
_PROGRAM = Path(sys.executable).parent / "chroma"


@contextmanager
def chroma_server_in(folder: Path) -> Iterator[str]:
    """Its address."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    words = ["run", "--host", "127.0.0.1", "--port", str(port), "--path", str(folder / "data")]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([_PROGRAM, *words], stdout=log, stderr=log, cwd=folder)
    try:
        address = f"http://127.0.0.1:{port}"
        _wait(process, address, folder / "log")
        yield address
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _wait(process: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        try:
            with urllib.request.urlopen(f"{address}/api/v2/heartbeat", timeout=1):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
