"""A model as the event loop sees it: a bounded queue in front of a thread."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from servers.kernel.errors import Unavailable
from servers.router.adapters.encoders.job import Job
from servers.router.adapters.encoders.reader import Reader
from servers.router.adapters.encoders.tasks import E, Engine, Piece, Task
from servers.router.ports import ProviderBusy, ProviderDown

R = TypeVar("R")

_LOADING = 60.0  # seconds
_LEAVING = 2.0  # seconds for the run under way; a model that is being loaded can't be stopped
_SOONEST, _LATEST = 0.1, 60.0  # seconds, of what a caller is told who comes too early


class _Nothing:
    """No text at all. Satisfies `Task`."""

    sizes: Sequence[int] = ()

    def cut(self, engine: Engine, texts: Sequence[int]) -> Sequence[Sequence[Piece]]:
        return []

    def keep(self, piece: Piece, found: object) -> None: ...

    def join(self, pieces: Sequence[Piece], kept: Sequence[object]) -> None: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    batch: int = 32  # texts that go through the model together
    waiting: int = 4096  # texts; callers who find so many before them are sent away


@dataclass(frozen=True, slots=True)
class Done(Generic[R]):
    results: list[R]  # one a text
    tokens: int  # that the model read


class Worker(Generic[E]):
    """`load` is called in the thread, once somebody wants the model."""

    def __init__(self, name: str, load: Callable[[], E], bounds: Bounds) -> None:
        self._name, self._load, self._bounds = name, load, bounds
        self._reader: Reader[E] | None = None
        self._jobs: set[Job] = set()
        self._waiting = 0  # texts of all jobs
        self._closed = False

    @property
    def engine(self) -> E | None:
        """The model, where it is loaded."""
        return self._reader.engine if self._reader else None

    async def do(self, task: Task[E, R], patience: float) -> Done[R]:
        """Cancelling takes the texts out of the queue, and ends a run that is only theirs.

        Raises ProviderBusy where too many wait, ProviderDown after `patience`
        seconds, and what loading and the task raise.
        """
        texts = len(task.sizes)
        self._admit(texts)
        reader = self._started()
        job = Job(task, asyncio.get_running_loop().create_future())
        self._jobs.add(job)
        self._waiting += texts
        reader.arrived.put(job)
        try:
            async with asyncio.timeout(patience):
                await job.future
            return Done(job.results, job.tokens)
        except TimeoutError:
            raise ProviderDown(
                f"{self._name}: no answer within {patience:g} s", reason="PROVIDER_TIMEOUT"
            ) from None
        finally:
            self._jobs.discard(job)
            self._waiting -= texts
            self._drop(job)

    async def ready(self) -> None:
        """Returns once the model is loaded. Raises what loading it raises."""
        await self.do(_Nothing(), _LOADING)

    async def aclose(self) -> None:
        """Sends away everyone who waits, and ends the run under way."""
        self._closed = True
        for job in self._jobs:
            self._drop(job)
            if not job.future.done():
                job.future.set_exception(self._closing())
        if self._reader is not None:
            self._reader.arrived.put(None)
            await asyncio.wait([self._reader.ended], timeout=_LEAVING)

    def _admit(self, texts: int) -> None:
        if self._closed:
            raise self._closing()
        if self._waiting and self._waiting + texts > self._bounds.waiting:
            pace = self._reader.pace if self._reader else 0.0
            raise ProviderBusy(
                f"{self._name}: {self._waiting} texts wait already, and {self._bounds.waiting} may",
                pause=min(max(_SOONEST, self._waiting * pace), _LATEST),
            )

    def _started(self) -> Reader[E]:
        if self._reader is None:
            loop = asyncio.get_running_loop()
            self._reader = Reader(self._load, self._bounds.batch, loop)
            self._reader.start()
        return self._reader

    def _drop(self, job: Job) -> None:
        job.dropped = True
        running = self._reader.running if self._reader else None
        if running and all(each.dropped for each in running[0]):
            running[1].terminate = True

    def _closing(self) -> Unavailable:
        return Unavailable(f"{self._name}: the mesh is stopping", reason="SHUTTING_DOWN")
