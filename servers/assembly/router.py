"""The router: its providers, budgets and prices, and what it shares with other processes."""

import time
from contextlib import AsyncExitStack

from servers.config import MeshConfig
from servers.domain.services import Router
from servers.kernel.background import for_ever
from servers.kernel.errors import NotReady
from servers.kernel.ids import new_id
from servers.kernel.sqlite import open_database
from servers.router.adapters import sqlite_usage
from servers.router.adapters.pool import open_providers
from servers.router.adapters.tokenizers import PackagedTokenizers
from servers.router.budgets.books import Books
from servers.router.budgets.journal import open_journal
from servers.router.budgets.ledger import Ledger
from servers.router.budgets.restoring import restored_ledger
from servers.router.budgets.retention import forget_old
from servers.router.budgets.sparing import Sparing
from servers.router.ports import Board
from servers.router.routing.prices import PriceList, load_prices
from servers.router.service import ModelRouter
from servers.router.wrappers.cache import CachingRouter
from servers.router.wrappers.structured import StructuredRouter

_LEASE = 900.0  # seconds that a call has its part of a budget in Redis, at least


async def open_router(config: MeshConfig, stack: AsyncExitStack) -> Router:
    providers = await stack.enter_async_context(open_providers(config.state_dir))
    prices = load_prices(config.prices_file) if config.prices_file.exists() else PriceList()
    ledger, board = await _open_shared(config, stack)
    books = await _open_books(config, stack, ledger)
    router = ModelRouter(
        config.router,
        providers,
        env=config.env,
        prices=prices,
        spending=books,
        tokenizers=PackagedTokenizers(),
        board=board,
    )
    if _wants_local_model(config):
        providers.local.start()  # loads while the rest starts
    await stack.enter_async_context(for_ever(router.watch_health()))
    await stack.enter_async_context(for_ever(router.hear_replicas()))
    return CachingRouter(StructuredRouter(router))


async def _open_shared(
    config: MeshConfig, stack: AsyncExitStack
) -> tuple[Ledger | None, Board | None]:
    """What this process shares with others through Redis; nothing where it is alone."""
    settings = config.runtime.redis
    if not settings.url:
        return None, None
    try:
        from servers.router.adapters.redis.shared import open_shared
    except ModuleNotFoundError as missing:
        raise NotReady(
            f"spec.redis of runtime.yaml needs the package {missing.name!r}: "
            "pip install 'astromesh-grpc[redis]'",
            reason="EXTRA_MISSING",
            extra="redis",
            module=missing.name or "",
        ) from missing
    longest = max((each.timeouts.total for each in config.router.providers.values()), default=0.0)
    lease = max(_LEASE, longest + 60)
    return await stack.enter_async_context(
        open_shared(settings.url, settings.prefix, lease, time.time, new_id)
    )


async def _open_books(config: MeshConfig, stack: AsyncExitStack, shared: Ledger | None) -> Books:
    """Budgets and the record of usage."""
    enter = stack.enter_async_context
    usage = await enter(open_database(config.state_dir / "usage.db", sqlite_usage.MIGRATIONS))
    record, sparing = sqlite_usage.SqliteUsage(usage), Sparing()
    ledger = shared or await restored_ledger(config.budgets, record, time.time())
    journal = await enter(open_journal(record, sparing))
    await enter(for_ever(forget_old(record, config.runtime.usage.keep_days, time.time)))
    return Books(config.budgets, ledger, record, journal, time.time, sparing)


def _wants_local_model(config: MeshConfig) -> bool:
    named = {ref.provider for each in config.agents if each.agent for ref in each.agent.models()}
    return any(config.router.provider(name).kind == "local" for name in named)
