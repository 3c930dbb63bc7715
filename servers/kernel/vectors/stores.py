"""The stores of this process: each place is opened once, when it is first wanted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import structlog

from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.ports import VectorStore

_log = structlog.stdlib.get_logger("astromesh.vectors")


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where a collection is kept. Those who name the same place share it."""

    backend: str
    collection: str
    address: str = field(default="", repr=False)  # it may hold a password
    path: str = ""
    api_key: str = field(default="", repr=False)


# Raises NotReady where the backend's package is missing, Unavailable where nobody answers.
OpenStore: TypeAlias = Callable[[StorePlace], AbstractAsyncContextManager[VectorStore]]


def store_at(folder: Path) -> OpenStore:
    """`folder` is where collections of this process are, unless a place names another."""

    def opened(place: StorePlace) -> AbstractAsyncContextManager[VectorStore]:
        where = Path(place.path) if place.path else folder / place.backend
        collection = Collection(place.collection, where, place.address, place.api_key)
        return open_collection(place.backend, collection)

    return opened


@dataclass(frozen=True, slots=True)
class _Opened:
    stack: AsyncExitStack
    opening: asyncio.Task[VectorStore]


class Stores:
    """Entered by who owns it; leaving closes all of them."""

    def __init__(self, open_store: OpenStore) -> None:
        self._open = open_store
        self._opened: dict[StorePlace, _Opened] = {}
        self._closing: dict[StorePlace, asyncio.Task[None]] = {}
        self._users: Counter[StorePlace] = Counter()
        self._kept: frozenset[StorePlace] | None = None  # None: all of them

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for place, opened in list(self._opened.items()):
            opened.opening.cancel()
            self._close(place)
        await asyncio.gather(*self._closing.values())

    async def at(self, place: StorePlace) -> VectorStore:
        """Raises what keeps it from being opened; who asks later tries again. Who leaves early
        leaves the opening to go on: half an opening may hold a folder for good."""
        while closing := self._closing.get(place):  # it has its folder until then
            await asyncio.shield(closing)
        opened = self._opened.get(place)
        if opened is None:
            stack = AsyncExitStack()
            opening = asyncio.create_task(stack.enter_async_context(self._open(place)))
            opened = self._opened[place] = _Opened(stack, opening)
            opening.add_done_callback(partial(self._forget_failed, place, opened))
        return await asyncio.shield(opened.opening)

    @asynccontextmanager
    async def using(self, place: StorePlace) -> AsyncIterator[VectorStore]:
        """As `at`; until it is left, the store stays open whatever is kept."""
        self._users[place] += 1
        try:
            yield await self.at(place)
        finally:
            self._users[place] -= 1
            self._close_unused(place)

    def opened(self) -> Sequence[tuple[str, VectorStore]]:
        """Those that somebody has asked for, and that could be opened; and their backends."""
        tasks = [(place.backend, each.opening) for place, each in self._opened.items()]
        done = [(backend, task) for backend, task in tasks if task.done() and not task.cancelled()]
        return [(backend, task.result()) for backend, task in done if not task.exception()]

    def keep(self, places: frozenset[StorePlace]) -> None:
        """Close the others, each as soon as nobody is `using` it."""
        self._kept = places
        for place in list(self._opened):
            self._close_unused(place)

    def _close_unused(self, place: StorePlace) -> None:
        if self._users[place] > 0:
            return
        del self._users[place]
        if self._kept is not None and place not in self._kept and place in self._opened:
            self._close(place)

    def _close(self, place: StorePlace) -> None:
        opened = self._opened.pop(place)
        self._closing[place] = asyncio.create_task(self._closed(place, opened))

    async def _closed(self, place: StorePlace, opened: _Opened) -> None:
        await asyncio.wait([opened.opening])
        try:
            await opened.stack.aclose()
        except Exception as error:  # nobody who could hear of it waits for this
            _log.exception("store not closed", collection=place.collection, error=repr(error))
        finally:
            del self._closing[place]

    def _forget_failed(
        self, place: StorePlace, opened: _Opened, opening: asyncio.Task[VectorStore]
    ) -> None:
        failed = opening.cancelled() or opening.exception() is not None
        if failed and self._opened.get(place) is opened:
            del self._opened[place]
