"""A folder like a fresh clone with one mesh in it, for pages whose commands are to be run."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
_OURS = ("ASTROMESH_", "OPENAI_", "OLLAMA_", "OTEL_", "COMPANY_")
_READY = "Ctrl-C stops everything."

# Its blocks run one after the other, and what one of them assigns the next ones see.
_SHELL = """set -eu
set -a
if [ -f .shell ]; then . ./.shell; fi
{block}
export -p > .shell
"""


class Tour:
    """`folder` is where the reader of the page is. Ports are the system's choice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http_port = self.grpc_port = 0
        self.mesh: subprocess.Popen[str] | None = None
        shutil.copytree(ROOT / "config", folder / "config")
        (folder / ".venv").symlink_to(sys.prefix)
        self._answer_briefly()

    def start(self) -> str:
        """As `make up`, without the question at the start. Returns what it prints."""
        if self.mesh is not None:  # whatever befell it
            self.mesh.wait(30)
            self._close()
        ports = ["--http-port", str(self.http_port), "--grpc-port", str(self.grpc_port)]
        with (self.folder / "mesh.log").open("a") as log:
            self.mesh = subprocess.Popen(
                [f"{sys.prefix}/bin/astromesh", "up", "--no-hello", *ports],
                **self._place(),
                stdout=subprocess.PIPE,
                stderr=log,
            )
        printed = self._until_ready()
        self.http_port = int(re.findall(r"http://127\.0\.0\.1:(\d+)", printed)[0])
        self.grpc_port = int(re.findall(r"gRPC +127\.0\.0\.1:(\d+)", printed)[0])
        return printed

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a block of the page as its reader would, but with the ports of this mesh."""
        return subprocess.run(
            ["bash", "-c", _SHELL.format(block=self.here(command))],
            **self._place(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=110,
        )

    def save(self, file: str, text: str) -> None:
        (self.folder / file).write_text(self.here(text))

    def here(self, text: str) -> str:
        """With the ports of this mesh for those of the page."""
        return text.replace("8080", str(self.http_port)).replace("50051", str(self.grpc_port))

    def interrupt(self) -> int:
        """Ctrl-C. Returns the exit code."""
        assert self.mesh is not None
        self.mesh.send_signal(signal.SIGINT)
        return self.mesh.wait(30)

    def end(self) -> None:
        if self.mesh is not None:
            self.mesh.kill()
            self.mesh.wait()
            self._close()

    def log(self) -> str:
        return (self.folder / "mesh.log").read_text()

    def _place(self) -> dict[str, object]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(_OURS)}
        own = {
            "ASTROMESH_ADDRESS": f"127.0.0.1:{self.grpc_port}",
            "OLLAMA_ENDPOINT": "http://127.0.0.1:9",  # nobody, also where an Ollama runs
            "no_proxy": "127.0.0.1",
        }
        return {"cwd": self.folder, "env": kept | own, "text": True}

    def _until_ready(self) -> str:
        assert self.mesh is not None
        assert self.mesh.stdout is not None
        lines: list[str] = []
        for line in self.mesh.stdout:
            lines.append(line)
            if line.startswith(_READY):
                return "".join(lines)
        raise AssertionError(f"the mesh ended with {self.mesh.wait()}:\n{self.log()}")

    def _answer_briefly(self) -> None:
        """The model is the real one, but nobody waits for the whole of its stories."""
        path = self.folder / "config" / "agents" / "assistant.agent.yaml"
        text = path.read_text()
        assert "max_tokens: 256" in text
        path.write_text(text.replace("max_tokens: 256", "max_tokens: 12"))

    def _close(self) -> None:
        if self.mesh is not None and self.mesh.stdout is not None:
            self.mesh.stdout.close()
