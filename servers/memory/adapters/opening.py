"""Opens the databases that memory is kept in, each when it is first needed."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeVar

from servers.kernel.errors import NotReady
from servers.kernel.sqlite import Database
from servers.memory.adapters.sqlite import SqliteConversations
from servers.memory.adapters.sqlite_episodes import SqliteEpisodes
from servers.memory.episode_ports import EpisodeStore
from servers.memory.places import Backend, Places
from servers.memory.ports import ConversationStore

T = TypeVar("T")

_PREFIX = "astromesh:memory"  # of keys in Redis


@asynccontextmanager
async def open_places(
    database: Database, backends: Mapping[str, Backend], now: Callable[[], float]
) -> AsyncIterator[Places[ConversationStore]]:
    """`database` was opened with `sqlite.MIGRATIONS`, and is the place by default."""

    @asynccontextmanager
    async def in_sqlite() -> AsyncIterator[ConversationStore]:
        yield SqliteConversations(database, now)

    def opening(backend: Backend) -> AbstractAsyncContextManager[ConversationStore]:
        if backend.kind == "redis":
            return _in_redis(backend)
        return _in_postgres(backend, now) if backend.kind == "postgres" else in_sqlite()

    async with Places(backends, opening) as places:
        yield places


@asynccontextmanager
async def open_episode_places(
    database: Database, backends: Mapping[str, Backend], now: Callable[[], float]
) -> AsyncIterator[Places[EpisodeStore]]:
    """As `open_places`. Redis keeps no episodes: its backends are none here."""

    @asynccontextmanager
    async def in_sqlite() -> AsyncIterator[EpisodeStore]:
        yield SqliteEpisodes(database, now)

    def opening(backend: Backend) -> AbstractAsyncContextManager[EpisodeStore]:
        return _episodes_in_postgres(backend, now) if backend.kind == "postgres" else in_sqlite()

    fit = {name: each for name, each in backends.items() if each.kind != "redis"}
    async with Places(fit, opening) as places:
        yield places


@asynccontextmanager
async def _in_redis(backend: Backend) -> AsyncIterator[ConversationStore]:
    def opens() -> AbstractAsyncContextManager[ConversationStore]:
        from servers.memory.adapters.redis import open_redis_conversations

        return open_redis_conversations(backend.url, backend.said_in, _PREFIX)

    async with await _imported(backend, opens) as store:
        yield store


@asynccontextmanager
async def _in_postgres(
    backend: Backend, now: Callable[[], float]
) -> AsyncIterator[ConversationStore]:
    def opens() -> AbstractAsyncContextManager[ConversationStore]:
        from servers.memory.adapters.postgres import open_postgres_conversations

        return open_postgres_conversations(backend.url, backend.said_in, now)

    async with await _imported(backend, opens) as store:
        yield store


@asynccontextmanager
async def _episodes_in_postgres(
    backend: Backend, now: Callable[[], float]
) -> AsyncIterator[EpisodeStore]:
    def opens() -> AbstractAsyncContextManager[EpisodeStore]:
        from servers.memory.adapters.postgres_episodes import open_postgres_episodes

        return open_postgres_episodes(backend.url, backend.said_in, now)

    async with await _imported(backend, opens) as store:
        yield store


async def _imported(backend: Backend, work: Callable[[], T]) -> T:
    """What imports a client library is done beside the event loop: half a second of computing is
    many on a busy machine, in which nobody else would be answered."""
    try:
        return await asyncio.to_thread(work)
    except ModuleNotFoundError as missing:
        raise _without(backend, missing) from missing


def _without(backend: Backend, missing: ModuleNotFoundError) -> NotReady:
    return NotReady(
        f"{backend.said_in} needs the package {missing.name!r}: "
        f"pip install 'astromesh-grpc[{backend.kind}]'",
        reason="EXTRA_MISSING",
        extra=backend.kind,
        module=missing.name or "",
    )
