"""The command `astromesh` as its users have it: a process with arguments, streams and signals."""

import asyncio
import io
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path

from servers.cli.app import app, guarded
from tests.patience import PATIENCE

PROGRAM = str(Path(sys.executable).parent / "astromesh")
LAST_LINE = "Ctrl-C stops everything."

PROVIDERS = """
apiVersion: astromesh/v1
kind: ProviderConfig
metadata: {{name: providers}}
spec:
  providers:
    scripted: {{type: openai_compat, endpoint: "{endpoint}", models: [m]}}
    ranks: {{type: vllm, endpoint: "{endpoint}", models: [m]}}
"""
AGENT = """
apiVersion: astromesh/v1
kind: Agent
metadata: {{name: {name}, version: "1"}}
spec:
  model: {{primary: {{provider: scripted, model: m}}}}
  tools: [{{name: calculator}}]
  memory: {{conversational: {{backend: sqlite}}}}
"""


def write_config(folder: Path, endpoint: str, *agents: str) -> Path:
    """A configuration whose only provider is at `endpoint`."""
    (folder / "agents").mkdir(parents=True)
    (folder / "providers.yaml").write_text(PROVIDERS.format(endpoint=endpoint))
    for name in agents:
        (folder / "agents" / f"{name}.agent.yaml").write_text(AGENT.format(name=name))
    return folder


@dataclass(frozen=True, slots=True)
class Done:
    """What a finished command left."""

    code: int
    out: str
    err: str


def invoked(*words: str, input: str = "") -> Done:
    """The same in this process, which spares the second that Python takes to start.

    Not for the event loop's thread: a command has a loop of its own.
    """
    out, err, stdin = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.TextIOWrapper(io.BytesIO(input.encode()))
    try:
        with redirect_stdout(out), redirect_stderr(err):
            code = guarded(lambda: app(words))
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        sys.stdin = stdin
    return Done(code, out.getvalue(), err.getvalue())


async def astromesh(*words: str, input: str = "", env: Mapping[str, str] | None = None) -> Done:
    process = await start(*words, env=env)
    out, err = await asyncio.wait_for(process.communicate(input.encode()), PATIENCE)
    return Done(process.returncode or 0, out.decode(), err.decode())


async def start(*words: str, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    clean = {key: value for key, value in os.environ.items() if not key.startswith("ASTROMESH_")}
    return await asyncio.create_subprocess_exec(
        PROGRAM, *words, stdin=pipe, stdout=pipe, stderr=pipe, env=clean | dict(env or {})
    )


@dataclass(slots=True)
class Up:
    """A mesh that was started by `astromesh up`."""

    process: asyncio.subprocess.Process
    said: list[str] = field(default_factory=list)
    err: bytes = b""
    more: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def address(self) -> str:
        return self._found(r"127\.0\.0\.1:\d+(?=  \(with reflection)")

    @property
    def http(self) -> str:
        return self._found(r"http://127\.0\.0\.1:\d+(?=  \(GET)")

    def line(self, word: str) -> str:
        return next(line.strip() for line in self.said if word in line)

    async def read_until(self, end: str) -> None:
        assert self.process.stdout is not None
        while not (self.said and end in self.said[-1]):
            line = await asyncio.wait_for(self.process.stdout.readline(), PATIENCE)
            if not line:
                raise AssertionError(f"{end!r} was never said: {self.said} {self.err.decode()}")
            self.said.append(line.decode().rstrip("\n"))

    async def logs(self, text: str) -> None:
        """Wait until standard error says it."""
        async with asyncio.timeout(PATIENCE):
            while text.encode() not in self.err:
                self.more.clear()
                await self.more.wait()

    async def ended(self) -> int:
        """The exit code."""
        await asyncio.wait_for(self.process.wait(), PATIENCE)
        assert self.process.stdout is not None
        self.said += (await self.process.stdout.read()).decode().splitlines()
        return self.process.returncode or 0

    def _found(self, pattern: str) -> str:
        match = re.search(pattern, "\n".join(self.said))
        assert match
        return match.group()


@asynccontextmanager
async def up(
    config: Path, state: Path, *options: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Up]:
    """A mesh on ports that the system chose; killed at the end if it still runs."""
    folders = ("--config", str(config), "--state", str(state))
    ports = ("--http-port", "0", "--grpc-port", "0")
    mesh = Up(await start("up", *folders, *ports, *options, env=env))
    drain = asyncio.create_task(_drain(mesh))
    try:
        await mesh.read_until(LAST_LINE)
        yield mesh
    finally:
        if mesh.process.returncode is None:
            mesh.process.kill()
            await mesh.process.wait()
        await drain


async def _drain(mesh: Up) -> None:
    """Keep the log from filling its pipe."""
    assert mesh.process.stderr is not None
    while chunk := await mesh.process.stderr.read(65536):
        mesh.err += chunk
        mesh.more.set()
