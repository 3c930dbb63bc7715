"""A model whose server can go out of order, and what then still reached it."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum

from bench.instant_model import InstantModel, Pace

_BROKEN = b"HTTP/1.1 500 Broken\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_WHY = b'{"error":{"message":"out of order","type":"server_error"}}'


class Outage(Enum):
    """How a server fails."""

    REFUSED = "connection refused"  # nobody listens, and who was connected is cut off
    ERROR = "HTTP 500"
    HANG = "no answer"


@dataclass
class Server:
    """Made by `serving`. Its port stays the same, whatever happens."""

    port: int = 0
    seen: list[float] = field(default_factory=list)  # when requests came, on the shared clock
    outage: Outage | None = None
    _listening: asyncio.Server | None = None
    _kept: socket.socket | None = None  # keeps the port while nobody listens
    _open: set["_Connection"] = field(default_factory=set)

    async def begin(self, outage: Outage) -> None:
        self.outage = outage
        if outage is Outage.REFUSED:
            await self.stop()
            self._kept = _bound(self.port)

    async def end(self) -> None:
        """From now on it answers again. Who waits for an answer is cut off: he will get none."""
        hung, self.outage = self.outage is Outage.HANG, None
        for connection in [*self._open] if hung else ():
            connection.cut()
        if self._kept is not None:
            await self.start()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._listening = await loop.create_server(
            lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024, reuse_address=True
        )
        self.port = self._listening.sockets[0].getsockname()[1]
        self._release()

    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.close()
        for connection in [*self._open]:
            connection.cut()
        self._listening = None
        self._release()

    def _release(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class _Connection(InstantModel):
    def __init__(self, server: Server) -> None:
        super().__init__(Pace())
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server._open.add(self)

    def connection_lost(self, error: Exception | None) -> None:
        super().connection_lost(error)
        self._server._open.discard(self)

    def cut(self) -> None:
        self._wire.abort()

    def _answer(self, request: bytes, body: bytes) -> None:
        self._server.seen.append(time.monotonic())
        match self._server.outage:
            case None:
                super()._answer(request, body)
            case Outage.ERROR:
                self._wire.write(_BROKEN % (len(_WHY), _WHY))


def _bound(port: int) -> socket.socket:
    """Connections are refused, and nobody else gets the port."""
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", port))
    return held
