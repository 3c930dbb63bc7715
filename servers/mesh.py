"""The composition root: the only module that names concrete classes of every service.

Read it top to bottom to learn what the mesh consists of and who needs whom.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import grpc
from astromesh.agents.v1 import agent_service_pb2_grpc
from astromesh.common.v1 import health_service_pb2_grpc
from astromesh.memory.v1 import memory_service_pb2_grpc
from astromesh.router.v1 import router_service_pb2_grpc
from astromesh.tools.v1 import tool_service_pb2_grpc

from servers.agents.adapters.opening import open_stores
from servers.agents.catalogue import Catalogue
from servers.agents.convert_runs import run_json
from servers.agents.housekeeping import keep_house
from servers.agents.patterns.fan_out import parallel_fan_out
from servers.agents.patterns.pipeline import pipeline
from servers.agents.patterns.plan_and_execute import plan_and_execute
from servers.agents.patterns.ports import Pattern
from servers.agents.patterns.react import react
from servers.agents.patterns.supervisor import supervisor
from servers.agents.patterns.swarm import swarm
from servers.agents.planning import Planner
from servers.agents.remote import RemoteAgents
from servers.agents.service import AgentRuntime, Limits
from servers.agents.servicer import AgentServicer
from servers.agents.versions import Versions
from servers.agents.watch import watching
from servers.agents.webhooks import Policy, Webhooks
from servers.config import MeshConfig
from servers.domain.caller import Caller
from servers.domain.services import Agents, Memory, Router, Tools
from servers.kernel import serving
from servers.kernel.errors import NotReady
from servers.kernel.health import HealthServicer, Readiness
from servers.kernel.netguard import allow, guarded_client
from servers.kernel.serving import Service, serve
from servers.kernel.sqlite import open_database
from servers.memory.adapters import sqlite as sqlite_memory
from servers.memory.remote import RemoteMemory
from servers.memory.service import ConversationMemory
from servers.memory.servicer import MemoryServicer
from servers.router.adapters import sqlite_usage
from servers.router.adapters.pool import open_providers
from servers.router.adapters.tokenizers import PackagedTokenizers
from servers.router.budgets.books import Books
from servers.router.budgets.journal import open_journal
from servers.router.budgets.ledger import Ledger
from servers.router.budgets.restoring import restored_ledger
from servers.router.budgets.retention import forget_old
from servers.router.budgets.sparing import Sparing
from servers.router.cache import CachingRouter
from servers.router.guard import GuardedRouter
from servers.router.ports import Board
from servers.router.prices import PriceList, load_prices
from servers.router.remote import RemoteRouter
from servers.router.service import ModelRouter
from servers.router.servicer import RouterServicer
from servers.router.structured import StructuredRouter
from servers.tools.adapters.builtin import builtin_tools, function_tools
from servers.tools.catalogue import configured_functions, plugin_functions
from servers.tools.remote import RemoteTools
from servers.tools.service import ToolService
from servers.tools.servicer import ToolServicer
from servers.tools.threads import Threads

VERSION = version("astromesh-grpc")

PATTERNS: dict[str, Pattern] = {
    "react": react,
    "pipeline": pipeline,
    "plan_and_execute": plan_and_execute,
    "parallel_fan_out": parallel_fan_out,
    "supervisor": supervisor,
    "swarm": swarm,
}

_AGENTS = "astromesh.agents.v1.AgentService"
_ROUTER = "astromesh.router.v1.RouterService"
_MEMORY = "astromesh.memory.v1.MemoryService"
_TOOLS = "astromesh.tools.v1.ToolService"
_HEALTH = "astromesh.common.v1.HealthService"

_LEASE = 900.0  # seconds that a call has its part of a budget in Redis, at least

_DIALLING = [
    # A service that was started again is found again within seconds, not minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.keepalive_time_ms", 30_000),  # a peer that fell silent is found out
    ("grpc.max_receive_message_length", serving.Limits().answer_bytes),
]


@dataclass(frozen=True, slots=True)
class Mesh:
    """The services, wherever they are: a direct call or a gRPC call each."""

    agents: Agents
    router: Router
    memory: Memory
    tools: Tools
    local: frozenset[str]  # those that this process runs and serves
    drain: Callable[[], Awaitable[None]]  # gives the runs of this process time to end
    key_variables: frozenset[str] = frozenset()  # that callers of the router may name


@asynccontextmanager
async def open_mesh(config: MeshConfig) -> AsyncIterator[Mesh]:
    """Build every service placed here, and a proxy for every one that is not.

    Leaving the context closes what was opened, in reverse order.
    """
    async with AsyncExitStack() as stack:

        async def dial(service: str) -> grpc.aio.Channel:
            channel = grpc.aio.insecure_channel(config.remote[service], _DIALLING)
            return await stack.enter_async_context(channel)

        router: Router
        if "router" in config.remote:
            router = RemoteRouter(await dial("router"))
        else:
            router = await _open_router(config, stack)

        memory: Memory
        if "memory" in config.remote:
            memory = RemoteMemory(await dial("memory"))
        else:
            database = await stack.enter_async_context(
                open_database(config.state_dir / "memory.db", sqlite_memory.MIGRATIONS)
            )
            memory = ConversationMemory(sqlite_memory.SqliteConversations(database), time.time)

        tools: Tools
        if "tools" in config.remote:
            tools = RemoteTools(await dial("tools"))
        else:
            tools = await _open_tools(config, stack)

        # The runtime takes Protocols. It cannot tell which branches were taken above.
        agents: Agents
        drain = _nothing_to_drain
        if "agents" in config.remote:
            agents = RemoteAgents(await dial("agents"))
        else:
            agents = runtime = await _open_agents(config, stack, router, memory, tools)
            drain = runtime.drain

        yield Mesh(agents, router, memory, tools, config.local, drain, config.key_variables)


async def _open_router(config: MeshConfig, stack: AsyncExitStack) -> Router:
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
    await stack.enter_async_context(_for_ever(router.watch_health()))
    await stack.enter_async_context(_for_ever(router.hear_replicas()))
    return CachingRouter(StructuredRouter(router))


async def _open_shared(
    config: MeshConfig, stack: AsyncExitStack
) -> tuple[Ledger | None, Board | None]:
    """What this process shares with others through Redis; nothing where it is alone."""
    settings = config.runtime.redis
    if not settings.url:
        return None, None
    try:
        from servers.router.adapters.shared import open_shared
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
        open_shared(settings.url, settings.prefix, lease, time.time, _new_id)
    )


async def _open_books(config: MeshConfig, stack: AsyncExitStack, shared: Ledger | None) -> Books:
    """Budgets and the record of usage."""
    enter = stack.enter_async_context
    usage = await enter(open_database(config.state_dir / "usage.db", sqlite_usage.MIGRATIONS))
    record, sparing = sqlite_usage.SqliteUsage(usage), Sparing()
    ledger = shared or await restored_ledger(config.budgets, record, time.time())
    journal = await enter(open_journal(record, sparing))
    await enter(_for_ever(forget_old(record, config.runtime.usage.keep_days, time.time)))
    return Books(config.budgets, ledger, record, journal, time.time, sparing)


def _wants_local_model(config: MeshConfig) -> bool:
    named = {ref.provider for each in config.agents if each.agent for ref in each.agent.models()}
    return any(config.router.provider(name).kind == "local" for name in named)


@asynccontextmanager
async def _for_ever(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _open_tools(config: MeshConfig, stack: AsyncExitStack) -> ToolService:
    threads = Threads(limit=16)
    guard = allow(config.runtime.tools.allowed_hosts)
    http = await stack.enter_async_context(guarded_client(guard))
    return ToolService(
        [
            *builtin_tools(threads, http, lambda: datetime.now(UTC)),
            *function_tools(plugin_functions(), threads),
            *function_tools(configured_functions(config.tool_functions), threads),
        ]
    )


async def _open_agents(
    config: MeshConfig, stack: AsyncExitStack, router: Router, memory: Memory, tools: Tools
) -> AgentRuntime:
    enter = stack.enter_async_context
    kept = config.runtime.runs
    stores = await enter(
        open_stores(config.state_dir, time.time, _new_id, dsn=kept.dsn, lease=kept.lease_seconds)
    )
    planner = Planner(router, memory, tools, PATTERNS, time.time)
    catalogue = Catalogue(stores.agents, config.declaring, planner.check, time.time)
    catalogue.take_files(config.agents)
    bounds = config.runtime.limits
    limits = Limits(bounds.active_runs, bounds.tenant_runs, bounds.drain_seconds)
    webhooks = _webhooks(config)
    versions = Versions(stores.versions, catalogue, config.declaring, time.time)
    runtime = AgentRuntime(
        catalogue,
        planner,
        versions,
        stores.runs,
        stores.leases,
        time.time,
        _new_id,
        limits,
        webhooks,
    )
    await enter(runtime)
    if webhooks.secret:
        client = await enter(guarded_client(allow(webhooks.plain)))
        teller = Webhooks(stores.outbox, client, webhooks, run_json, time.time)
        await enter(_for_ever(teller.deliver()))
    house = keep_house(stores.retention, time.time, kept.ttl, kept.compact_after)
    await enter(_for_ever(house))
    await enter(watching(config.agents_dir, config.declaring, catalogue.take_files))
    return runtime


def _webhooks(config: MeshConfig) -> Policy:
    settings = config.runtime.webhooks
    hosts = (host.lower().rstrip(".") for host in settings.allowed_hosts)
    return Policy(settings.secret, frozenset(hosts))


def _new_id() -> str:
    """Later ones sort later, which keeps the tables of runs in order (as UUIDv7 does)."""
    return f"{time.time_ns() // 1_000_000:012x}{random.getrandbits(80):020x}"


async def _nothing_to_drain() -> None:
    """The runs are another process's."""


@asynccontextmanager
async def serve_mesh(mesh: Mesh, *, host: str = "127.0.0.1", port: int) -> AsyncIterator[int]:
    """Serve the services placed here on one port, and give it.

    On leaving, runs get time to end before their calls are cut.
    """
    served = [service for name, service in _services(mesh).items() if name in mesh.local]
    readiness = Readiness({service.name: _ready for service in served} | {_HEALTH: _ready})
    health = HealthServicer(readiness, VERSION, lambda: _count(mesh))
    served.append(
        _service(_HEALTH, health_service_pb2_grpc.add_HealthServiceServicer_to_server, health)
    )
    async with serve(served, readiness, host=host, port=port) as bound:
        try:
            yield bound
        finally:
            readiness.stop()
            await mesh.drain()


def _services(mesh: Mesh) -> dict[str, Service]:
    return {
        "agents": _service(
            _AGENTS,
            agent_service_pb2_grpc.add_AgentServiceServicer_to_server,
            AgentServicer(mesh.agents),
        ),
        "router": _service(
            _ROUTER,
            router_service_pb2_grpc.add_RouterServiceServicer_to_server,
            RouterServicer(GuardedRouter(mesh.router, mesh.key_variables)),
        ),
        "memory": _service(
            _MEMORY,
            memory_service_pb2_grpc.add_MemoryServiceServicer_to_server,
            MemoryServicer(mesh.memory),
        ),
        "tools": _service(
            _TOOLS,
            tool_service_pb2_grpc.add_ToolServiceServicer_to_server,
            ToolServicer(mesh.tools),
        ),
    }


def _service(name: str, add: Callable[[Any, grpc.aio.Server], None], servicer: Any) -> Service:
    return Service(name, lambda server: add(servicer, server))


def _ready() -> str:
    return ""  # what is open is ready: open_mesh returns only then


async def _count(mesh: Mesh) -> tuple[int, int]:
    """Agents that can run, and those that can't; of a process without agents none."""
    if "agents" not in mesh.local:
        return 0, 0
    page = await mesh.agents.list(Caller(), page_size=1000)
    ready = sum(record.ready for record in page.agents)
    return ready, len(page.agents) - ready
