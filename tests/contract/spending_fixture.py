"""The books of a router over either ledger: in this process, or in a real Redis."""

import itertools
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from servers.domain.caller import Account
from servers.domain.chat import Usage
from servers.kernel.manifest import load
from servers.kernel.sqlite import open_database
from servers.router.adapters.redis.client import open_redis
from servers.router.adapters.redis.ledger import open_redis_ledger
from servers.router.adapters.sqlite_usage import MIGRATIONS, SqliteUsage
from servers.router.budgets import budget as values
from servers.router.budgets.books import Books
from servers.router.budgets.journal import open_journal
from servers.router.budgets.restoring import restored_ledger
from servers.router.budgets.sparing import Sparing
from servers.router.manifest.budgets import Budget
from servers.router.ports import Cost

NOON = 1_795_608_000.0  # 2026-11-25T12:00:00Z
_names = itertools.count()


class Clock:
    """Time that moves when the test says so."""

    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def budget(**spec: Any) -> values.Budget:
    """A budget as a file would declare it."""
    name = spec.pop("name", "") or f"budget-{next(_names)}"
    manifest = {
        "apiVersion": "astromesh/v1",
        "kind": "Budget",
        "metadata": {"name": name},
        "spec": {"window": "day", **spec},
    }
    (found,) = load(Budget, yaml.safe_dump(manifest), "budgets.yaml", {})
    return found.budget()


def usd(amount: float) -> Cost:
    return Cost(0, amount)


def tokens(count: int) -> Cost:
    return Cost(count, None)


def used(tokens: int = 0, usd: float | None = None) -> Usage:
    """Half of it read, half of it written."""
    return Usage(tokens // 2, tokens - tokens // 2, 0, usd)


ANYBODY = Account("acme", "ann", "helper", "s-1", "r-1")


@asynccontextmanager
async def books(
    folder: Path,
    *budgets: values.Budget,
    redis: str = "",
    prefix: str = "",
    lease: float = 900.0,
    clock: Callable[[], float] | None = None,
) -> AsyncIterator[Books]:
    """With `redis` (a URL) the counters are there; the record is in `folder` in any case."""
    now = clock or Clock()
    async with open_database(folder / "usage.db", MIGRATIONS) as database:
        record, sparing = SqliteUsage(database), Sparing()
        async with open_journal(record, sparing) as journal:
            if not redis:
                ledger = await restored_ledger(budgets, record, now())
                yield Books(budgets, ledger, record, journal, now, sparing)
                return
            async with (
                open_redis(redis) as client,
                open_redis_ledger(client, prefix, lease, now, lambda: uuid.uuid4().hex) as shared,
            ):
                yield Books(budgets, shared, record, journal, now, sparing)
