"""Conversations in Redis. Needs the extra `redis`.

All keys of a tenant have one hash tag, so that scripts over several of them may run in a
cluster (see `redis_keys`). How much outlives a crash of the server is its own setting
(`appendfsync`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, OutOfMemoryError, RedisError
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import TimeoutError as Late

from servers.domain.memory import Recorded, SessionInfo, SessionKey, Summary, Turn
from servers.kernel.errors import Exhausted, Unavailable
from servers.kernel.stored_json import dumps
from servers.memory.adapters import redis_scripts as scripts
from servers.memory.adapters.redis_keys import (
    Keys,
    body_of,
    index_of,
    info_of,
    key_of,
    places_of,
    recounted,
    sessions_of,
    tenant_tag,
    turn_of,
)
from servers.memory.ports import Exchange, Window

_CONNECTIONS: Final = 16
_ANSWER: Final = 5.0  # seconds for a connection, and for an answer
_PATIENCE: Final = 10.0  # seconds that a run waits for a server that is away
_PAUSE: Final = 0.1  # seconds between two tries, at first
_AWAY: Final = (Lost, Late, BusyLoadingError, OSError)
_SWEEP: Final = 3600.0  # seconds
_CHUNK: Final = 500  # turns, or places, that are read together


class RedisConversations:
    """Made by `open_redis_conversations`."""

    def __init__(self, redis: Redis, prefix: str, where: str, patience: float) -> None:
        self._redis, self._prefix, self._where = redis, prefix, where
        self._patience = patience
        self._append = redis.register_script(scripts.APPEND)
        self._clear = redis.register_script(scripts.CLEAR)
        self._summarise = redis.register_script(scripts.SUMMARISE)
        self._replace = redis.register_script(scripts.REPLACE)
        self._remove = redis.register_script(scripts.REMOVE)
        self._prune = redis.register_script(scripts.PRUNE)
        self._sweep_at = 0.0
        self._unlist = redis.register_script(scripts.UNLIST)

    async def append(self, key: SessionKey, exchange: Exchange) -> int:
        k = self._keys(key)
        ttl = "" if exchange.ttl is None else str(round(exchange.ttl * 1000))
        keys = k.all + ([k.principals(exchange.principal)] if exchange.principal else [])
        head = [exchange.mark, exchange.id, repr(exchange.at), ttl, key.session, k.place]
        said = (exchange.run_id, exchange.principal, exchange.at)
        bodies = [
            body_of(dumps(message).decode(), *said, tokens, exchange.counted_by)
            for message, tokens in zip(exchange.messages, exchange.counts, strict=True)
        ]
        args: list[str] = [*head, *bodies]
        # Again, where the connection was lost: what has a mark already is not added twice.
        return int(await self._steadily(lambda: self._append(keys=keys, args=args)))

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Turn]:
        return [turn_of(member) for member in await self._members(self._keys(key), after, limit)]

    async def newest(self, key: SessionKey, limit: int, before: int | None = None) -> Window:
        k = self._keys(key)
        end = "+inf" if before is None else f"({before}"

        async def work() -> Any:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.zrange(k.turns, end, "-inf", desc=True, byscore=True, offset=0, num=limit)
                pipe.zcard(k.turns)
                pipe.hmget(k.meta, ["summary", "until", "etag"])
                return await pipe.execute()

        members, total, (summary, until, etag) = await self._steadily(work)
        turns = tuple(turn_of(member) for member in reversed(members))
        return Window(turns, total, summary or "", int(until or 0), etag or "")

    async def clear(self, key: SessionKey) -> int:
        k = self._keys(key)
        args = [key.session, k.place]
        return int(await self._steadily(lambda: self._clear(keys=k.all, args=args)))

    async def summarise(self, key: SessionKey, summary: Summary, etag: str) -> bool:
        keys = [self._keys(key).meta]
        args: list[str | int] = [summary.etag, etag, summary.text, summary.until]
        return bool(await self._steadily(lambda: self._summarise(keys=keys, args=args)))

    async def count(self, key: SessionKey, counts: Sequence[tuple[int, int]], by: str) -> None:
        k = self._keys(key)
        found = [(i, n, await self._members(k, i - 1, 1)) for i, n in counts]
        args: list[str | int] = []
        for index, tokens, members in found:
            if members and index_of(members[0]) == index:
                args += [index, members[0], recounted(members[0], tokens, by)]
        if args:
            await self._steadily(lambda: self._replace(keys=[k.turns], args=args))

    async def sessions(
        self, tenant: str, agent: str, after: str, limit: int
    ) -> Sequence[SessionInfo]:
        found: list[SessionInfo] = []
        while len(found) < limit:
            names = await self._names(tenant, agent, after, limit)
            keys = [SessionKey(tenant, agent, name) for name in names]
            infos = zip(keys, await self._infos(keys), strict=True)
            found += [info for _, info in infos if info is not None]
            if len(names) < limit:
                break
            after = names[-1]
        return found[:limit]

    async def of_principal(
        self, tenant: str, principal: str, after: tuple[str, str, int], limit: int
    ) -> Sequence[Recorded]:
        found: list[Recorded] = []
        agent, session, index = after
        first = f"[{agent}\0{session}" if agent else "-"
        async for place in self._places(tenant, principal, first):
            key = key_of(tenant, place)
            since = index if (key.agent, key.session) == (agent, session) else -1
            async for member in self._his(key, principal, since):
                found.append(Recorded(key, turn_of(member)))
                if len(found) == limit:
                    return found
        return found

    async def erase(self, tenant: str, principal: str, etag: str) -> int:
        total = 0
        async for place in self._places(tenant, principal, "-"):
            key = key_of(tenant, place)
            k = self._keys(key)
            head = [etag, key.session, place]
            while members := [m async for m in self._his(key, principal, -1)][:_CHUNK]:
                runs = [turn_of(member).run_id for member in members]
                pairs = [each for pair in zip(members, runs, strict=True) for each in pair]
                total += await self._removed(k, [*head, *pairs])
            await self._forget_place(k, principal)
        return total

    async def sweep(self) -> int:
        """Redis removes sessions itself, and each write some names of those that are gone. This
        is for the names of tenants who don't write any more. It looks at every key there is,
        and therefore once an hour at most."""
        now = asyncio.get_running_loop().time()
        if now < self._sweep_at:
            return 0
        self._sweep_at = now + _SWEEP
        pattern = "{" + self._prefix + ":*}:expiring"
        with _in_our_words(self._where):
            async for expiring in self._redis.scan_iter(match=pattern, count=1000):
                while await self._prune(keys=[expiring]):
                    pass
        return 0

    # -- pieces ----------------------------------------------------------------------------

    def _keys(self, key: SessionKey) -> Keys:
        return Keys(self._prefix, key)

    async def _members(self, k: Keys, after: int, limit: int) -> list[str]:
        return list(
            await self._steadily(
                lambda: self._redis.zrange(
                    k.turns, f"({after}", "+inf", byscore=True, offset=0, num=limit
                )
            )
        )

    async def _names(self, tenant: str, agent: str, after: str, limit: int) -> list[str]:
        listing = sessions_of(tenant_tag(self._prefix, tenant), agent)
        first = f"({after}" if after else "-"
        return list(
            await self._steadily(
                lambda: self._redis.zrange(listing, first, "+", bylex=True, offset=0, num=limit)
            )
        )

    async def _infos(self, keys: Sequence[SessionKey]) -> list[SessionInfo | None]:
        async def work() -> Any:
            async with self._redis.pipeline(transaction=False) as pipe:
                for key in keys:
                    k = self._keys(key)
                    pipe.hmget(k.meta, ["created", "updated", "ends", "summary"])
                    pipe.zcard(k.turns)
                return await pipe.execute()

        answers = await self._steadily(work) if keys else []
        pairs = zip(keys, answers[::2], answers[1::2], strict=True)
        return [info_of(key, meta, turns) if turns else None for key, meta, turns in pairs]

    async def _places(self, tenant: str, principal: str, first: str) -> AsyncIterator[str]:
        listing = places_of(tenant_tag(self._prefix, tenant), principal)
        while True:
            reading = partial(self._redis.zrange, listing, bylex=True, offset=0, num=_CHUNK)
            places = await self._steadily(partial(reading, first, "+"))
            for place in places:
                yield place
            if len(places) < _CHUNK:
                return
            first = f"({places[-1]}"

    async def _his(self, key: SessionKey, principal: str, after: int) -> AsyncIterator[str]:
        k = self._keys(key)
        while members := await self._members(k, after, _CHUNK):
            for member in members:
                if turn_of(member).principal == principal:
                    yield member
            after = index_of(members[-1])

    async def _removed(self, k: Keys, args: Sequence[str]) -> int:
        return int(await self._steadily(lambda: self._remove(keys=k.all, args=list(args))))

    async def _forget_place(self, k: Keys, principal: str) -> None:
        keys = [k.turns, k.people, k.expiring, k.principals(principal)]
        await self._steadily(lambda: self._unlist(keys=keys, args=[k.place, principal]))

    async def _steadily(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Work that may as well be done twice, over restarts of the server."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self._patience, _PAUSE
        with _in_our_words(self._where):
            while True:
                try:
                    return await work()
                except _AWAY:
                    if loop.time() + pause >= end:
                        raise
                await asyncio.sleep(pause)
                pause = min(2 * pause, 1.0)


@contextmanager
def _in_our_words(where: str) -> Iterator[None]:
    try:
        yield
    except OutOfMemoryError as error:
        raise Exhausted(f"{where} has no room left: {error}", reason="DISK_FULL") from error
    except (RedisError, OSError) as error:
        raise Unavailable(
            f"{where} can't be reached: {str(error) or repr(error)}",
            reason="STORE_UNAVAILABLE",
            retry_after=1.0,
        ) from error


@asynccontextmanager
async def open_redis_conversations(
    url: str, said_in: str, prefix: str, patience: float = _PATIENCE
) -> AsyncIterator[RedisConversations]:
    """Raises Unavailable (STORE_UNAVAILABLE) where nobody answers, or refuses the password."""
    parts = urlsplit(url)  # the URL itself may hold a password
    where = f"Redis at {parts.hostname}:{parts.port or 6379}"
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_ANSWER,
        socket_timeout=_ANSWER,
        socket_connect_timeout=_ANSWER,
        retry=Retry(NoBackoff(), 0),
        decode_responses=True,
    )
    redis = Redis.from_pool(pool)
    try:
        try:
            await redis.ping()
        except (RedisError, OSError) as error:
            raise Unavailable(
                f"{where} ({said_in}) can't be used: {str(error) or repr(error)}",
                reason="STORE_UNAVAILABLE",
                retry_after=1.0,
            ) from error
        yield RedisConversations(redis, prefix, where, patience)
    finally:
        await redis.aclose()
