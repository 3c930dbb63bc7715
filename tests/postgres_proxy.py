"""A line to PostgreSQL that counts what is asked, and that breaks at a bad moment: after a
commit, before anybody hears of it."""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

NAME = ".s.PGSQL.5432"


@dataclass
class Proxy:
    """Made by `proxy`. Put its folder in the place of the server's."""

    folder: Path
    server: Path
    swallowing: bytes | None = None  # a statement that has this: its answer is not passed on
    swallowed: int = 0
    asked: int = 0  # messages that went there
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_unix_connection(str(self.server / NAME))
        doomed = asyncio.Event()
        there = asyncio.create_task(self._there(client, to_server, doomed))
        try:
            while answer := await server.read(65536):
                if doomed.is_set():  # the server has done it
                    self.swallowed += 1
                    break
                to_client.write(answer)
                await to_client.drain()
        except ConnectionError:
            pass
        finally:
            there.cancel()
            to_client.close()
            to_server.close()

    async def _there(
        self, client: asyncio.StreamReader, to_server: asyncio.StreamWriter, doomed: asyncio.Event
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while asked := await client.read(1 << 20):
                self.asked += 1
                if self.swallowing and self.swallowing in asked:
                    self.swallowing = None
                    doomed.set()
                to_server.write(asked)
                await to_server.drain()


@asynccontextmanager
async def proxy(server: Path) -> AsyncIterator[Proxy]:
    with tempfile.TemporaryDirectory(prefix="pg-proxy-") as folder:
        line = Proxy(Path(folder), server)
        listening = await asyncio.start_unix_server(line.serve, str(line.folder / NAME))
        try:
            yield line
        finally:
            listening.close()
