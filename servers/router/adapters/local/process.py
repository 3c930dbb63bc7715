"""Keeps the embedded model's process alive: starts it, waits for it, starts it again, ends it."""

import asyncio
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from servers.kernel.errors import AstromeshError, NotReady
from servers.router.adapters.local import model_file
from servers.router.adapters.processes import end
from servers.router.ports import ProviderDown

_ROOT = Path(__file__).parents[4]
WORKER = "servers.router.adapters.local.worker"
MODEL = "smollm2-135m-instruct"
_FIRST_BACKOFF, _LONGEST_BACKOFF = 0.5, 30.0  # seconds
_LOADING = 120.0  # seconds until a worker that says nothing is given up


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    path: str
    model: str = MODEL
    context_window: int = 4096  # tokens of each conversation
    parallel: int = 2
    threads: int = 1


@dataclass(frozen=True, slots=True)
class Address:
    """Where the worker that is alive now answers, and the key it wants."""

    endpoint: str
    api_key: str


class LocalModel:
    """Made by `open_local_model`. Nothing is started before somebody wants it."""

    def __init__(self, state_dir: Path, find: Callable[[], Path] = model_file.find) -> None:
        self._memo = state_dir / "local_model.json"
        self._log = state_dir / "local_model.log"
        self._find = find
        self._task: asyncio.Task[None] | None = None
        self._process: Process | None = None
        self._state: Address | AstromeshError | None = None  # None while it loads
        self._settled = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The worker's process, where one is alive."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    def start(self) -> None:
        """Begin loading in the background. Again is no harm.

        Raises NotReady that names the extra where the packages are missing.
        """
        if self._task is None:
            path = self._find()
            self._task = asyncio.create_task(self._keep_alive(path), name="local model")

    async def ready(self, patience: float) -> Address:
        """Waits up to `patience` seconds for a model that loads, not for one that is down."""
        self.start()
        try:
            async with asyncio.timeout(patience):
                await self._settled.wait()
        except TimeoutError:
            raise ProviderDown(
                f"the local model was not loaded within {patience:g} s", reason="MODEL_LOADING"
            ) from None
        if isinstance(self._state, Address):
            return self._state
        assert self._state is not None
        raise copy(self._state)

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _keep_alive(self, path: Path) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            self._say(None)
            try:
                await asyncio.to_thread(model_file.verified, path, self._memo)
                served = await self._serve_once(path)
            except (AstromeshError, OSError) as broken:  # damaged weights, a full disk
                backoff = _LONGEST_BACKOFF
                self._say(NotReady(f"the local model can't start: {broken}", reason="MODEL_BROKEN"))
            else:
                backoff = _FIRST_BACKOFF if served else min(2 * backoff, _LONGEST_BACKOFF)
                self._say(
                    ProviderDown(
                        "the local model's process ended and will be started again "
                        f"(see {self._log.name} in the state folder)",
                        reason="MODEL_RESTARTING",
                    )
                )
            await asyncio.sleep(backoff)

    def _say(self, state: Address | AstromeshError | None) -> None:
        self._state = state
        if state is None:
            self._settled.clear()
        else:
            self._settled.set()

    async def _serve_once(self, path: Path) -> bool:
        """One life of the worker. Returns whether it ever answered."""
        api_key = secrets.token_hex(16)
        settings = WorkerSettings(str(path), threads=len(os.sched_getaffinity(0)))
        process = self._process = await self._spawn(settings)
        try:
            assert process.stdin
            assert process.stdout
            process.stdin.write(api_key.encode() + b"\n")
            async with asyncio.timeout(_LOADING):
                line = await process.stdout.readline()
            if line:
                self._say(Address(orjson.loads(line)["endpoint"], api_key))
            await process.wait()
            return bool(line)
        except (TimeoutError, ConnectionError, ValueError, KeyError):
            return False
        finally:
            await end(process)

    async def _spawn(self, settings: WorkerSettings) -> Process:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                WORKER,
                orjson.dumps(asdict(settings)).decode(),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                cwd=_ROOT,  # where `-m` finds the worker, wherever the mesh was started
                start_new_session=True,  # Ctrl-C is for the mesh, which drains first
            )


@asynccontextmanager
async def open_local_model(
    state_dir: Path, find: Callable[[], Path] = model_file.find
) -> AsyncIterator[LocalModel]:
    """Leaving the context ends the worker within two seconds."""
    model = LocalModel(state_dir, find)
    try:
        yield model
    finally:
        await model.aclose()
