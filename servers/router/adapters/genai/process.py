"""Keeps the worker of a model folder: starts it when somebody wants it, ends it with its owner."""

import asyncio
import itertools
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from copy import copy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import structlog

from servers.kernel.errors import AstromeshError, NotReady
from servers.router.adapters.processes import end
from servers.router.ports import ProviderDown

_ROOT = Path(__file__).parents[4]
WORKER = "servers.router.adapters.genai.worker"
_LINE = 1 << 20  # bytes of an event
_REST = 2.0  # seconds in which a broken folder is not tried again
_LAST_WORDS = 5  # lines on stderr

Event: TypeAlias = dict[str, Any]
Inbox: TypeAlias = "asyncio.Queue[Event | AstromeshError]"

_log = structlog.stdlib.get_logger("astromesh.router")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    folder: str
    device: str = "auto"
    threads: int = 0  # 0: as the folder says


class Worker:
    """`check` looks at the folder in a thread before the worker is started; it raises NotReady.
    `now` gives seconds, from whenever."""

    def __init__(
        self, settings: WorkerSettings, check: Callable[[], object], now: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._check = check
        self._now = now
        self._numbers = itertools.count(1)
        self._inboxes: dict[int, Inbox] = {}
        self._life: asyncio.Task[None] | None = None
        self._born: asyncio.Future[Process]
        self._broken: tuple[float, AstromeshError] | None = None
        self.loaded = False
        self.guided = True  # whether the package can hold answers to a schema, until it says no

    @property
    def pid(self) -> int | None:
        """The process, where one is alive."""
        alive = self._life and not self._life.done() and self._born.done()
        return self._born.result().pid if alive and not self._born.exception() else None

    @property
    def trouble(self) -> AstromeshError | None:
        """Why the folder could not be loaded when that was last tried."""
        return self._broken[1] if self._broken else None

    @asynccontextmanager
    async def job(self, work: Event) -> AsyncIterator[Inbox]:
        """Where the events of a job arrive. Leaving it ends the job."""
        process = await self._alive()
        number = next(self._numbers)
        inbox = self._inboxes[number] = asyncio.Queue()
        try:
            _send(process, {**work, "id": number})
            await _drained(process)
            yield inbox
        finally:
            del self._inboxes[number]
            if process.returncode is None:
                _send(process, {"id": number, "do": "cancel"})

    async def aclose(self) -> None:
        if self._life is not None:
            self._life.cancel()
            await asyncio.wait([self._life])

    async def _alive(self) -> Process:
        if self._life is None or self._life.done():
            self._born = asyncio.get_running_loop().create_future()
            self._life = asyncio.create_task(self._live(self._born), name="model folder")
        # It is started for everybody: that one of them leaves must not keep it from that.
        return await asyncio.shield(self._born)

    async def _live(self, born: "asyncio.Future[Process]") -> None:
        """One life of the worker, from the look at its folder to its last words."""
        process = await self._birth(born)
        if process is None:
            return
        words: deque[bytes] = deque(maxlen=_LAST_WORDS)
        gathering = asyncio.create_task(_gather(process, words))
        died = False
        try:
            await self._listen(process)
            died = self._broken is None
        finally:
            await end(process)
            await gathering
            if died:
                said = b"".join(words).decode(errors="replace")
                _log.warning("model process ended", code=process.returncode, stderr=said)
            self._bury(process)

    async def _birth(self, born: "asyncio.Future[Process]") -> Process | None:
        try:
            self._rested()
            await asyncio.to_thread(self._check)
            process = await self._spawn()
        except (AstromeshError, OSError) as error:
            born.set_exception(_fault(error))
            born.exception()  # whoever waited for it may have left
            return None
        except asyncio.CancelledError:
            born.cancel()
            raise
        born.set_result(process)
        return process

    def _rested(self) -> None:
        """A folder that could not be loaded a moment ago can't be now."""
        if self._broken and self._now() < self._broken[0] + _REST:
            raise copy(self._broken[1])
        self._broken = None

    async def _spawn(self) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            WORKER,
            orjson.dumps(asdict(self._settings)).decode(),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LINE,
            cwd=_ROOT,  # where `-m` finds the worker, wherever the mesh was started
            # Without this, the package tells its maker about every model that it loads.
            env={"ORT_DISABLE_TELEMETRY": "1", **os.environ},
            start_new_session=True,  # Ctrl-C is for the mesh, which drains first
        )

    async def _listen(self, process: Process) -> None:
        assert process.stdout
        while line := await process.stdout.readline():
            event = orjson.loads(line)
            if "broken" in event:
                fault = NotReady(
                    f"the model in {self._settings.folder!r} can't be loaded: {event['broken']}",
                    reason="MODEL_BROKEN",
                )
                self._broken = self._now(), fault
            elif "ready" in event:
                self.loaded = True
            else:
                self.guided = self.guided and "cannot" not in event
                if inbox := self._inboxes.get(event["id"]):
                    inbox.put_nowait(event)

    def _bury(self, process: Process) -> None:
        self.loaded = False
        fault = self.trouble or ProviderDown(
            f"the process of the model in {self._settings.folder!r} ended "
            f"(exit code {process.returncode}); the next call starts it again",
            reason="MODEL_RESTARTING",
        )
        for inbox in self._inboxes.values():
            inbox.put_nowait(copy(fault))


def _fault(error: AstromeshError | OSError) -> AstromeshError:
    if isinstance(error, OSError):
        return ProviderDown(f"no process for the model: {error}", reason="PROVIDER_FAILED")
    return error


def _send(process: Process, job: Event) -> None:
    assert process.stdin
    if not process.stdin.is_closing():
        process.stdin.write(orjson.dumps(job) + b"\n")


async def _drained(process: Process) -> None:
    assert process.stdin
    with suppress(ConnectionError):  # it ended: the inbox will say so
        await process.stdin.drain()


async def _gather(process: Process, words: deque[bytes]) -> None:
    """What it says on stderr: it must not wait for somebody who reads that."""
    assert process.stderr
    while chunk := await process.stderr.read(1 << 16):
        words.append(chunk[-2000:])
