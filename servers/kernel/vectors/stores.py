"""The stores of this process: each place is opened once, when it is first wanted."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

from servers.kernel.vectors.collection import Collection
from servers.kernel.vectors.opening import open_collection
from servers.kernel.vectors.ports import VectorStore


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


class Stores:
    """Entered by who owns it; leaving closes all of them."""

    def __init__(self, open_store: OpenStore) -> None:
        self._open = open_store
        self._stack = AsyncExitStack()
        self._opened: dict[StorePlace, asyncio.Task[VectorStore]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for opening in self._opened.values():
            opening.cancel()
        await asyncio.gather(*self._opened.values(), return_exceptions=True)
        await self._stack.aclose()

    async def at(self, place: StorePlace) -> VectorStore:
        """Raises what keeps it from being opened; who asks later tries again. Who leaves early
        leaves the opening to go on: half an opening may hold a folder for good."""
        opening = self._opened.get(place)
        if opening is None:
            opening = asyncio.create_task(self._stack.enter_async_context(self._open(place)))
            opening.add_done_callback(partial(self._forget_failed, place))
            self._opened[place] = opening
        return await asyncio.shield(opening)

    def opened(self) -> Sequence[VectorStore]:
        """Those that somebody has asked for, and that could be opened."""
        done = [each for each in self._opened.values() if each.done() and not each.cancelled()]
        return [each.result() for each in done if each.exception() is None]

    def _forget_failed(self, place: StorePlace, opening: asyncio.Task[VectorStore]) -> None:
        if opening.cancelled() or opening.exception() is not None:
            del self._opened[place]
