"""Counters that several processes share, in Redis. Satisfies `budgets.ledger.Ledger`.

What is set aside is a lease: it comes back by itself where the process that took it was
killed. What was used is counted however long Redis is away, up to the time of a lease.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from servers.kernel.errors import Unavailable
from servers.router.adapters.redis.batches import Batches
from servers.router.adapters.redis.scripts import RESERVE, SETTLE, STANDINGS
from servers.router.budgets.amounts import Amount
from servers.router.budgets.budget import Budget, Claim, Counter
from servers.router.budgets.ledger import LISTED, Hold, Reserved, Standing
from servers.router.budgets.windows import bounds

_HOUR, _MONTH = 3600.0, 30 * 86400.0  # seconds
_PAUSE: Final = 1.0  # seconds in which nobody else waits for a Redis that did not answer
_AT_ONCE: Final = 1.0  # seconds that a caller waits until its usage is counted
_AT_THE_END: Final = 3.0  # seconds that the last settlements have when the mesh stops
_SLOWEST: Final = 5.0  # seconds between two tries

_log = structlog.stdlib.get_logger("astromesh.budgets")


@dataclass(frozen=True, slots=True)
class Keys:
    """One part of a cluster holds them all, which is what scripts over several keys need."""

    prefix: str

    def counter(self, counter: Counter) -> str:
        return f"{self._of(counter.budget, counter.starts_at)}:{group_text(counter)}"

    def listing(self, budget: str, starts_at: int, tenant: str | None) -> str:
        whose = "" if tenant is None else f":{tenant}"
        return f"{self._of(budget, starts_at)}:list{whose}"

    def mark(self, id: str) -> str:
        return f"{{{self.prefix}}}:settled:{id}"

    def _of(self, budget: str, starts_at: int) -> str:
        return f"{{{self.prefix}}}:budget:{budget}:{starts_at}"


class RedisLedger:
    """Made by `open_redis_ledger`. `lease`: seconds that the longest call takes."""

    lasting = True

    def __init__(
        self,
        redis: Redis,
        prefix: str,
        lease: float,
        now: Callable[[], float],
        id: Callable[[], str],
    ) -> None:
        self._redis, self._keys, self._lease = redis, Keys(prefix), lease
        self._now, self._id = now, id
        self._reserve = redis.register_script(RESERVE)
        self._settle = redis.register_script(SETTLE)
        self._standings = redis.register_script(STANDINGS)
        self._batches = Batches(redis)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._away_until = 0.0

    async def reserve(self, claims: tuple[Claim, ...], amount: Amount) -> Reserved:
        # In a task of its own: a caller that leaves must not cut off a question whose
        # answer says that something was taken.
        taking = self._start(self._take(Hold(self._id(), claims, amount)))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            self._start(self._give_back(taking))
            raise

    async def settle(self, hold: Hold, used: Amount) -> None:
        await asyncio.wait([self._start(self._count(hold, used))], timeout=_AT_ONCE)

    async def standings(
        self, budget: Budget, tenant: str | None, starts_at: int
    ) -> Sequence[tuple[Counter, Standing]]:
        listing = self._keys.listing(budget.name, starts_at, tenant)
        groups = await self._asked(lambda: self._redis.zrevrange(listing, 0, LISTED - 1))
        counters = [_counter(budget, starts_at, text) for text in groups]
        keys = [key for each in counters for key in self._both(each)]
        found = (
            await self._asked(lambda: self._batches.ask(self._standings, keys, ())) if keys else []
        )
        return [(each, _standing(row)) for each, row in zip(counters, found, strict=True)]

    async def aclose(self) -> None:
        """Give the last settlements some time."""
        if self._tasks:
            _, unfinished = await asyncio.wait(self._tasks, timeout=_AT_THE_END)
            for task in unfinished:
                task.cancel()
            if unfinished:
                _log.error("usage not counted in Redis: it is away", calls=len(unfinished))
        await self._batches.aclose()

    async def _take(self, hold: Hold) -> Reserved:
        keys = [key for claim in hold.claims for key in self._three(claim.counter)]
        limits = [part for claim in hold.claims for part in self._terms(claim)]
        amount = hold.amount
        common: list[str | int] = [_lease(hold), amount.nano, amount.tokens, _millis(self._lease)]
        taken, found = await self._asked(
            lambda: self._batches.ask(self._reserve, keys, [*common, *limits])
        )
        return Reserved(hold if taken else None, tuple(_standing(row) for row in found))

    async def _give_back(self, taking: "asyncio.Task[Reserved]") -> None:
        await asyncio.wait([taking])
        if taking.exception() is None and (hold := taking.result().hold):
            await self._count(hold, Amount())

    async def _count(self, hold: Hold, used: Amount) -> None:
        """However long Redis is away; but a lease that has ended gives back by itself."""
        keys = [key for claim in hold.claims for key in self._both(claim.counter)]
        keys.append(self._keys.mark(hold.id))
        ages = [self._age(claim.counter) for claim in hold.claims]
        args: list[str | int] = [_lease(hold), used.nano, used.tokens, _millis(self._lease), *ages]
        began, delay = monotonic(), 0.1
        while True:
            try:
                await self._batches.ask(self._settle, keys, args)
                return
            except (RedisError, OSError) as error:
                if monotonic() - began > self._lease:
                    _log.error("usage not counted in Redis", error=str(error))
                    return
            await asyncio.sleep(delay)
            delay = min(2 * delay, _SLOWEST)

    async def _asked(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        if monotonic() < self._away_until:
            raise _away("it did not answer a moment ago")
        try:
            return await ask()
        except (RedisError, OSError) as error:
            self._away_until = monotonic() + _PAUSE
            raise _away(str(error)) from error

    def _start(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _both(self, counter: Counter) -> tuple[str, str]:
        key = self._keys.counter(counter)
        return key, f"{key}:leases"

    def _three(self, counter: Counter) -> tuple[str, str, str]:
        listing = self._keys.listing(counter.budget, counter.starts_at, counter.tenant)
        return (*self._both(counter), listing)

    def _terms(self, claim: Claim) -> Iterable[str | int]:
        limit = claim.budget.limit
        yield int(claim.budget.hard)
        yield -1 if limit.nano is None else limit.nano
        yield -1 if limit.tokens is None else limit.tokens
        yield self._age(claim.counter)
        yield group_text(claim.counter)

    def _age(self, counter: Counter) -> int:
        """Milliseconds to keep it: until nobody can want it any more."""
        if counter.ends_at is None:
            return _millis(_MONTH)
        left = max(counter.ends_at - self._now(), 0.0)
        return _millis(left + self._lease + _HOUR)


@asynccontextmanager
async def open_redis_ledger(
    redis: Redis, prefix: str, lease: float, now: Callable[[], float], id: Callable[[], str]
) -> AsyncIterator[RedisLedger]:
    """Leaving the context sends what is still to be counted."""
    ledger = RedisLedger(redis, prefix, lease, now, id)
    try:
        yield ledger
    finally:
        await ledger.aclose()


def group_text(counter: Counter) -> str:
    return json.dumps(counter.group)


def _counter(budget: Budget, starts_at: int, text: str) -> Counter:
    group = tuple((name, value) for name, value in json.loads(text))
    return Counter(budget.name, group, *bounds(budget.window, starts_at))


def _lease(hold: Hold) -> str:
    return f"{hold.id}:{hold.amount.nano}:{hold.amount.tokens}"


def _standing(row: Sequence[str | None]) -> Standing:
    spent_nano, spent_tokens, held_nano, held_tokens = (int(each or 0) for each in row)
    return Standing(Amount(spent_nano, spent_tokens), Amount(held_nano, held_tokens))


def _millis(seconds: float) -> int:
    return int(seconds * 1000)


def _away(why: str) -> Unavailable:
    return Unavailable(
        f"budgets can't be counted, as Redis can't be used: {why}",
        reason="BUDGETS_UNAVAILABLE",
        retry_after=_PAUSE,
    )
