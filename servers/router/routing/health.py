"""Asks declared providers how they are, as often as their manifest wants it."""

import asyncio
from collections.abc import Mapping

from servers.kernel.errors import AstromeshError
from servers.router.lanes.lanes import Lanes
from servers.router.ports import Providers, ProviderSettings, RouterSettings
from servers.router.routing.inventory import endpoint_of


async def watch(
    settings: RouterSettings, adapters: Providers, lanes: Lanes, env: Mapping[str, str]
) -> None:
    """For ever. A probe tells ListProviders, not the breakers: only calls open those."""
    async with asyncio.TaskGroup() as group:
        for provider in settings.providers.values():
            if provider.health_check_interval > 0:
                group.create_task(_watch(provider, adapters, lanes, env))


async def probe(
    provider: ProviderSettings, adapters: Providers, lanes: Lanes, env: Mapping[str, str]
) -> None:
    try:
        key = provider.api_key or env.get(provider.api_key_env, "")
        await adapters.get(provider.kind, endpoint_of(provider), provider.options).health(key)
        lanes.health[provider.name] = True, ""
    except AstromeshError as down:
        lanes.health[provider.name] = False, down.message


async def _watch(
    provider: ProviderSettings, adapters: Providers, lanes: Lanes, env: Mapping[str, str]
) -> None:
    while True:
        await probe(provider, adapters, lanes, env)
        await asyncio.sleep(provider.health_check_interval)
