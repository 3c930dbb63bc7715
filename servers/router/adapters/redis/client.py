"""A connection to Redis, for what several processes share. Needs the extra `redis`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from servers.kernel.errors import Unavailable

_PATIENCE: Final = 1.0  # seconds for a connection, and for an answer: a call waits for it
_CONNECTIONS: Final = 8  # most of what is asked goes over one, see `redis_batches`


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[Redis]:
    """Raises Unavailable where nobody answers, or refuses the password."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_CONNECTIONS,
        timeout=_PATIENCE,
        socket_timeout=_PATIENCE,
        socket_connect_timeout=_PATIENCE,
        # Once more, for a connection that the server has closed meanwhile.
        retry=Retry(NoBackoff(), 1),
        decode_responses=True,
    )
    redis = Redis.from_pool(pool)
    try:
        await _greet(redis, url)
        yield redis
    finally:
        await redis.aclose()


async def _greet(redis: Redis, url: str) -> None:
    try:
        await redis.ping()
    except (RedisError, OSError) as error:
        parts = urlsplit(url)  # the URL itself may hold a password
        raise Unavailable(
            f"Redis at {parts.hostname}:{parts.port or 6379} (spec.redis of runtime.yaml) can't be "
            f"used: {error}",
            reason="BUDGETS_UNAVAILABLE",
        ) from error
