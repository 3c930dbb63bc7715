"""Conversations in Redis. Needs the extra `redis`.

All keys of a tenant have one hash tag, so that scripts over several of them may run in a
cluster (see `redis_keys`). How much outlives a crash of the server is its own setting
(`appendfsync`).
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from redis.exceptions import BusyLoadingError, OutOfMemoryError, RedisError
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import TimeoutError as Late

from servers.domain.memory import Recorded, SessionInfo, SessionKey, Summary, Turn
from servers.kernel.errors import Exhausted, Unavailable
from servers.kernel.stored_json import dumps, loads
from servers.memory.adapters import redis_scripts as scripts
from servers.memory.adapters.redis_connections import (
    DEMOTED,
    Connections,
    Script,
    Word,
    open_connections,
)
from servers.memory.adapters.redis_keys import (
    Keys,
    body_of,
    index_of,
    info_of,
    key_of,
    messages_of,
    places_of,
    recounted,
    sessions_of,
    stored,
    tenant_tag,
    turns_of,
)
from servers.memory.ports import Exchange, Latest, Standing, Window

_PATIENCE: Final = 10.0  # seconds that a run waits for a server that is away
_PAUSE: Final = 0.1  # seconds between two tries, at first
_AWAY: Final = (Lost, Late, BusyLoadingError, OSError, *DEMOTED)
_SWEEP: Final = 3600.0  # seconds
_CHUNK: Final = 500  # turns, or places, that are read together
_MANY: Final = ("COUNT", 1000)  # keys that are looked at together
_KNOWN: Final = ("created", "updated", "ends", "summary")  # of a session

_APPEND = Script.of(scripts.APPEND)
_UNSUMMARISED = Script.of(scripts.UNSUMMARISED)
_NEWEST = Script.of(scripts.NEWEST)
_PAGE = Script.of(scripts.PAGE)
_CLEAR = Script.of(scripts.CLEAR)
_SUMMARISE = Script.of(scripts.SUMMARISE)
_REPLACE = Script.of(scripts.REPLACE)
_REMOVE = Script.of(scripts.REMOVE)
_PRUNE = Script.of(scripts.PRUNE)
_UNLIST = Script.of(scripts.UNLIST)


class RedisConversations:
    """Made by `open_redis_conversations`."""

    def __init__(self, redis: Connections, prefix: str, where: str, patience: float) -> None:
        self._redis, self._prefix, self._where = redis, prefix, where
        self._patience = patience
        self._sweep_at = 0.0

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
        # Again, where the connection was lost: what has a mark already is not added twice.
        return int(await self._run(_APPEND, keys, [*head, *bodies]))

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Turn]:
        return turns_of(await self._members(self._keys(key), after, limit))

    async def latest(self, key: SessionKey, limit: int, *, unsummarised: bool = False) -> Latest:
        k = self._keys(key)
        if not unsummarised:
            total, members = await self._newest(k, "+inf", limit)
            return Latest(messages_of(members), total)
        answer: bytes = await self._run(_UNSUMMARISED, [k.turns, k.meta], [limit])
        if not answer:
            return Latest()
        head, *members = answer.split(b"\n")
        total, summary = loads(head)
        return Latest(messages_of(members if members[0] else []), total, summary)

    async def newest(self, key: SessionKey, limit: int, before: int | None = None) -> Window:
        end = "+inf" if before is None else f"({before}"
        total, members = await self._newest(self._keys(key), end, limit)
        return Window(stored(members), total)

    async def standing(self, key: SessionKey) -> Standing:
        k = self._keys(key)
        meta = ("HMGET", k.meta, "summary", "until", "etag")
        total, (summary, until, etag) = await self._ask_all([("ZCARD", k.turns), meta])
        return Standing(total, (summary or b"").decode(), int(until or 0), (etag or b"").decode())

    async def clear(self, key: SessionKey) -> int:
        k = self._keys(key)
        return int(await self._run(_CLEAR, k.all, [key.session, k.place]))

    async def summarise(self, key: SessionKey, summary: Summary, etag: str) -> bool:
        said: list[Word] = [summary.etag, etag, summary.text, summary.until]
        return bool(await self._run(_SUMMARISE, [self._keys(key).meta], said))

    async def count(self, key: SessionKey, counts: Sequence[tuple[int, int]], by: str) -> None:
        k = self._keys(key)
        found = [(i, n, await self._members(k, i - 1, 1)) for i, n in counts]
        args: list[Word] = []
        for index, tokens, members in found:
            if members and index_of(members[0]) == index:
                args += [index, members[0], recounted(members[0], tokens, by)]
        if args:
            await self._run(_REPLACE, [k.turns], args)

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
        first = f"[{agent}\0{session}".encode() if agent else b"-"
        async for place in self._places(tenant, principal, first):
            key = key_of(tenant, place)
            since = index if (key.agent, key.session) == (agent, session) else -1
            async for member in self._his(key, principal, since):
                found.append(Recorded(key, turns_of([member])[0]))
                if len(found) == limit:
                    return found
        return found

    async def erase(self, tenant: str, principal: str, etag: str) -> int:
        total = 0
        async for place in self._places(tenant, principal, b"-"):
            key = key_of(tenant, place)
            k = self._keys(key)
            head: list[Word] = [etag, key.session, place]
            while members := [m async for m in self._his(key, principal, -1)][:_CHUNK]:
                runs = [turn.run_id for turn in stored(members)]
                pairs = [each for pair in zip(members, runs, strict=True) for each in pair]
                total += int(await self._run(_REMOVE, k.all, [*head, *pairs]))
            keys = [k.turns, k.people, k.expiring, k.principals(principal)]
            await self._run(_UNLIST, keys, [k.place, principal])
        return total

    async def sweep(self) -> int:
        """Redis removes sessions itself, and each write some names of those that are gone. This
        is for the names of tenants who don't write any more. It looks at every key there is,
        and therefore once an hour at most."""
        now = asyncio.get_running_loop().time()
        if now < self._sweep_at:
            return 0
        self._sweep_at = now + _SWEEP
        pattern, cursor = "{" + self._prefix + ":*}:expiring", b"0"
        with _in_our_words(self._where):
            while True:
                cursor, found = await self._redis.ask("SCAN", cursor, "MATCH", pattern, *_MANY)
                for expiring in found:
                    while await self._redis.run(_PRUNE, [expiring.decode()], []):
                        pass
                if cursor == b"0":
                    return 0

    # -- pieces ----------------------------------------------------------------------------

    def _keys(self, key: SessionKey) -> Keys:
        return Keys(self._prefix, key)

    async def _newest(self, k: Keys, end: str, limit: int) -> tuple[int, list[bytes]]:
        answer: bytes = await self._run(_NEWEST, [k.turns], [end, limit])
        total, *members = answer.split(b"\n")
        return int(total or 0), members

    async def _members(self, k: Keys, after: int, limit: int) -> list[bytes]:
        answer: bytes = await self._run(_PAGE, [k.turns], [after, limit])
        return answer.split(b"\n") if answer else []

    async def _names(self, tenant: str, agent: str, after: str, limit: int) -> list[str]:
        listing = sessions_of(tenant_tag(self._prefix, tenant), agent)
        first = f"({after}" if after else "-"
        within = ("ZRANGE", listing, first, "+", "BYLEX", "LIMIT", 0, limit)
        (names,) = await self._ask_all([within])
        return [name.decode() for name in names]

    async def _infos(self, keys: Sequence[SessionKey]) -> list[SessionInfo | None]:
        asked: list[Sequence[Word]] = []
        for key in keys:
            k = self._keys(key)
            asked += [("HMGET", k.meta, *_KNOWN), ("ZCARD", k.turns)]
        answers = await self._ask_all(asked) if asked else []
        pairs = zip(keys, answers[::2], answers[1::2], strict=True)
        return [info_of(key, meta, turns) if turns else None for key, meta, turns in pairs]

    async def _places(self, tenant: str, principal: str, first: bytes) -> AsyncIterator[bytes]:
        listing = places_of(tenant_tag(self._prefix, tenant), principal)
        while True:
            within = ("ZRANGE", listing, first, "+", "BYLEX", "LIMIT", 0, _CHUNK)
            (places,) = await self._ask_all([within])
            for place in places:
                yield place
            if len(places) < _CHUNK:
                return
            first = b"(" + places[-1]

    async def _his(self, key: SessionKey, principal: str, after: int) -> AsyncIterator[bytes]:
        k = self._keys(key)
        while members := await self._members(k, after, _CHUNK):
            for member, turn in zip(members, stored(members), strict=True):
                if turn.principal == principal:
                    yield member
            after = index_of(members[-1])

    async def _run(self, script: Script, keys: Sequence[str], words: Sequence[Word]) -> Any:
        return await self._steadily(lambda: self._redis.run(script, keys, words))

    async def _ask_all(self, questions: Sequence[Sequence[Word]]) -> list[Any]:
        return list(await self._steadily(lambda: self._redis.ask_all(questions)))

    async def _steadily(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Work that may as well be done twice, over restarts of the server. Twice it is tried
        at least: where this process stood still, the time is over and the server is well."""
        loop = asyncio.get_running_loop()
        end, pause = loop.time() + self._patience, _PAUSE
        with _in_our_words(self._where):
            while True:
                try:
                    return await work()
                except _AWAY:
                    if pause > _PAUSE and loop.time() + pause >= end:
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
    async with open_connections(url) as redis:
        try:
            await redis.ask("PING")
        except (RedisError, OSError) as error:
            raise Unavailable(
                f"{where} ({said_in}) can't be used: {str(error) or repr(error)}",
                reason="STORE_UNAVAILABLE",
                retry_after=1.0,
            ) from error
        yield RedisConversations(redis, prefix, where, patience)
