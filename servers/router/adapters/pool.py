"""The providers of this process, and what they share. Satisfies `ports.Providers`."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from servers.router.adapters.http import Http, open_http
from servers.router.adapters.local_model import LocalModel, open_local_model
from servers.router.kinds import PROVIDERS
from servers.router.ports import Provider

_MOST = 1024  # endpoints may come from requests


class Pool:
    def __init__(self, http: Http, local: LocalModel) -> None:
        self._http = http
        self.local = local
        self._made: OrderedDict[tuple[str, str], Provider] = OrderedDict()

    def get(self, kind: str, endpoint: str) -> Provider:
        made = self._made.get((kind, endpoint))
        if made is None:
            if len(self._made) >= _MOST:  # they hold no connection of their own
                self._made.popitem(last=False)
            made = self._made[kind, endpoint] = self._make(kind, endpoint)
        return made

    def _make(self, kind: str, endpoint: str) -> Provider:
        adapter = PROVIDERS[kind]
        shared = (self._http, self.local) if kind == "local" else (self._http,)
        provider: Provider = adapter(endpoint, *shared)
        return provider


@asynccontextmanager
async def open_providers(state_dir: Path) -> AsyncIterator[Pool]:
    """Leaving the context closes every connection and ends the local model."""
    async with open_http() as http, open_local_model(state_dir) as local:
        yield Pool(http, local)
