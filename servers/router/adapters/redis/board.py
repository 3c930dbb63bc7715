"""Breakers that replicas share through Redis: one replica's three failures spare the others theirs.

Open breakers are keys that expire when their time is up, so that a replica that starts
learns of them; changes are also published, so that those at work hear at once. Redis
is no record: when it is away, each replica goes by what it finds out itself.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from math import inf, isinf
from typing import Any
from uuid import uuid4

import orjson
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from servers.router.ports import BreakerKey

_log = structlog.stdlib.get_logger("astromesh.router")
_AWAY = (RedisError, OSError, TimeoutError)
_AGAIN = 1.0  # seconds until a lost connection is tried anew


class RedisBoard:
    """Satisfies `ports.Board`. Made by `open_board`."""

    def __init__(self, redis: Redis, prefix: str) -> None:
        self._redis, self._prefix, self._me = redis, prefix + "breaker:", uuid4().hex
        self._telling: set[asyncio.Task[None]] = set()
        self._away = False

    def opened(self, key: BreakerKey, seconds: float) -> None:
        self._tell(self._open(key, seconds))

    def closed(self, key: BreakerKey) -> None:
        self._tell(self._close(key))

    async def probe(self, key: BreakerKey, seconds: float) -> bool:
        lock, milliseconds = self._name("probe", key), max(1, int(seconds * 1000))
        try:
            return bool(await self._redis.set(lock, self._me, nx=True, px=milliseconds))
        except _AWAY as error:
            self._lost(error)
            return True

    async def listen(self, heard: Callable[[BreakerKey, float], None]) -> None:
        while True:
            try:
                async with self._redis.pubsub() as channel:
                    await channel.subscribe(self._prefix + "changes")
                    await self._learn(heard)
                    self._away = False
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._pass_on(message["data"], heard)
            except _AWAY as error:
                self._lost(error)
            await asyncio.sleep(_AGAIN)

    async def aclose(self) -> None:
        """What was said last is still told, if Redis takes it at once."""
        if self._telling:
            _, late = await asyncio.wait(self._telling, timeout=1.0)
            for task in late:
                task.cancel()

    async def _open(self, key: BreakerKey, seconds: float) -> None:
        name = self._name("open", key)
        if isinf(seconds):
            await self._redis.set(name, self._me)
        else:
            await self._redis.set(name, self._me, px=max(1, int(seconds * 1000)))
        await self._redis.delete(self._name("probe", key))
        await self._say(key, -1.0 if isinf(seconds) else seconds)

    async def _close(self, key: BreakerKey) -> None:
        await self._redis.delete(self._name("open", key), self._name("probe", key))
        await self._say(key, 0.0)

    async def _say(self, key: BreakerKey, seconds: float) -> None:
        await self._redis.publish(
            self._prefix + "changes", orjson.dumps([self._me, key, seconds]).decode()
        )

    async def _learn(self, heard: Callable[[BreakerKey, float], None]) -> None:
        """What was open before this replica listened."""
        async for name in self._redis.scan_iter(self._prefix + "open:*"):
            left = await self._redis.pttl(name)
            if left == -1 or left > 0:
                key = orjson.loads(name.removeprefix(self._prefix + "open:"))
                heard((key[0], key[1], key[2]), inf if left == -1 else left / 1000)

    def _pass_on(self, said: str, heard: Callable[[BreakerKey, float], None]) -> None:
        who, key, seconds = orjson.loads(said)
        if who != self._me:
            heard((key[0], key[1], key[2]), inf if seconds < 0 else seconds)

    def _tell(self, saying: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(self._told(saying))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _told(self, saying: Coroutine[Any, Any, None]) -> None:
        try:
            await saying
        except _AWAY as error:
            self._lost(error)

    def _lost(self, error: BaseException) -> None:
        if not self._away:  # once, not for every call
            _log.warning("breakers are not shared: redis is away", error=str(error))
        self._away = True

    def _name(self, what: str, key: BreakerKey) -> str:
        return f"{self._prefix}{what}:{orjson.dumps(key).decode()}"


@asynccontextmanager
async def open_board(redis: Redis, prefix: str) -> AsyncIterator[RedisBoard]:
    """The connection is its owner's, and must decode its answers."""
    board = RedisBoard(redis, prefix)
    try:
        yield board
    finally:
        await board.aclose()
