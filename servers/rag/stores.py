"""The stores of this process: each place is opened once, when it is first wanted."""

import asyncio
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Self

from servers.kernel.vectors.ports import VectorStore
from servers.rag.ports import OpenStore, StorePlace


class Stores:
    """Pipelines that name the same place share its store. Entered by who owns it; leaving
    closes all of them."""

    def __init__(self, open_store: OpenStore) -> None:
        self._open = open_store
        self._stack = AsyncExitStack()
        self._opened: dict[StorePlace, VectorStore] = {}
        self._locks: dict[StorePlace, asyncio.Lock] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def at(self, place: StorePlace) -> VectorStore:
        """Raises what keeps it from being opened; who asks later tries again."""
        async with self._locks.setdefault(place, asyncio.Lock()):
            if place not in self._opened:
                store = await self._stack.enter_async_context(self._open(place))
                self._opened[place] = store
            return self._opened[place]
