"""What the replicas of a router share, over one connection to Redis. Needs the extra `redis`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from servers.router.adapters.redis.board import open_board
from servers.router.adapters.redis.client import open_redis
from servers.router.adapters.redis.ledger import open_redis_ledger
from servers.router.budgets.ledger import Ledger
from servers.router.ports import Board


@asynccontextmanager
async def open_shared(
    url: str, prefix: str, lease: float, now: Callable[[], float], new_id: Callable[[], str]
) -> AsyncIterator[tuple[Ledger, Board]]:
    """Raises Unavailable where Redis can't be reached. For `lease` see `redis_ledger`."""
    async with (
        open_redis(url) as redis,
        open_redis_ledger(redis, prefix, lease, now, new_id) as ledger,
        open_board(redis, f"{prefix}:") as board,
    ):
        yield ledger, board
