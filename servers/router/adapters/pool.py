"""The providers of this process, and what they share. Satisfies `ports.Providers`."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from servers.router.adapters.encoders.owner import Encoders, open_encoders
from servers.router.adapters.http import Http, open_http
from servers.router.adapters.local.process import LocalModel, open_local_model
from servers.router.kinds import PROVIDERS
from servers.router.ports import Embedder, Options, Provider, Reranker, TokenCounter

_MOST = 1024  # endpoints may come from requests


@dataclass(frozen=True, slots=True)
class Means:
    """What adapters share. Each names what it needs in `needs`: its first arguments after
    the endpoint, in that order. Its options are keyword arguments."""

    http: Http
    local: LocalModel
    encoders: Encoders


class Pool:
    """Whoever makes it closes it."""

    def __init__(self, means: Means) -> None:
        self._means = means
        self._made: OrderedDict[tuple[str, str, Options], Any] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def local(self) -> LocalModel:
        return self._means.local

    def get(self, kind: str, endpoint: str, options: Options = ()) -> Provider:
        provider: Provider = self._adapter(kind, endpoint, options)
        return provider

    def embedder(self, kind: str, endpoint: str, options: Options = ()) -> Embedder:
        embedder: Embedder = self._adapter(kind, endpoint, options)
        return embedder

    def reranker(self, kind: str, endpoint: str, options: Options = ()) -> Reranker:
        reranker: Reranker = self._adapter(kind, endpoint, options)
        return reranker

    def counter(self, kind: str, endpoint: str, options: Options = ()) -> TokenCounter:
        counter: TokenCounter = self._adapter(kind, endpoint, options)
        return counter

    async def aclose(self) -> None:
        for adapter in self._made.values():
            self._close(adapter)
        self._made.clear()
        if self._closing:
            await asyncio.wait(self._closing)

    def _adapter(self, kind: str, endpoint: str, options: Options) -> Any:
        key = (kind, endpoint, options)
        made = self._made.get(key)
        if made is None:
            if len(self._made) >= _MOST:
                self._close(self._made.popitem(last=False)[1])
            made = self._made[key] = self._make(kind, endpoint, options)
        else:
            self._made.move_to_end(key)  # the longest unused makes room
        return made

    def _make(self, kind: str, endpoint: str, options: Options) -> Any:
        adapter = PROVIDERS[kind]
        needs: tuple[str, ...] = getattr(adapter, "needs", ("http",))
        return adapter(endpoint, *(getattr(self._means, need) for need in needs), **dict(options))

    def _close(self, adapter: Any) -> None:
        """Most hold nothing of their own; those that do are closed in the background."""
        if close := getattr(adapter, "aclose", None):
            task = asyncio.create_task(close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


@asynccontextmanager
async def open_providers(state_dir: Path) -> AsyncIterator[Pool]:
    """Leaving the context closes every connection and ends the models of this machine."""
    async with (
        open_http() as http,
        open_local_model(state_dir) as local,
        open_encoders() as encoders,
    ):
        pool = Pool(Means(http, local, encoders))
        try:
            yield pool
        finally:
            await pool.aclose()
