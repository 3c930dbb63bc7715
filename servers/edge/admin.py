"""Envoy's admin interface, as far as the edge needs it. It listens on loopback only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx


class Admin:
    """Questions and orders to one running Envoy. Made by `open_admin`."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def ready(self) -> bool:
        try:
            return (await self._client.get("/ready")).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    async def public_port(self) -> int:
        """The port that the system chose, where it was asked to."""
        listeners = (await self._client.get("/listeners?format=json")).json()
        (public,) = (each for each in listeners["listener_statuses"] if each["name"] == "public")
        return int(public["local_address"]["socket_address"]["port_value"])

    async def drain(self, poll: float = 0.05) -> None:
        """Take no new calls, and return when none is in flight any more, or Envoy is gone."""
        with suppress(httpx.TransportError):
            await self._client.post("/healthcheck/fail")  # answers now say connection: close
            await self._client.post("/drain_listeners")
            while await self._active():  # noqa: ASYNC110 - Envoy has nothing to wait on
                await asyncio.sleep(poll)

    async def _active(self) -> int:
        stats = await self._client.get("/stats?filter=^http.public.downstream_rq_active$")
        return int(stats.text.rpartition(":")[2] or 0)


@asynccontextmanager
async def open_admin(port: int) -> AsyncIterator[Admin]:
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}", timeout=2.0, trust_env=False, verify=False
    ) as client:
        yield Admin(client)
