"""The composition root: the only module that names concrete classes of every service.

Read it top to bottom to learn what the mesh consists of and who needs whom.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import grpc
from astromesh.agents.v1 import agent_service_pb2, agent_service_pb2_grpc
from astromesh.common.v1 import health_service_pb2, health_service_pb2_grpc
from astromesh.memory.v1 import memory_service_pb2, memory_service_pb2_grpc
from astromesh.rag.v1 import rag_service_pb2, rag_service_pb2_grpc
from astromesh.router.v1 import router_service_pb2, router_service_pb2_grpc
from astromesh.tools.v1 import tool_service_pb2, tool_service_pb2_grpc
from google.longrunning import operations_pb2_grpc

from servers.agents.remote import RemoteAgents
from servers.agents.servicer import AgentServicer
from servers.assembly.agents import open_agents
from servers.assembly.files import Files
from servers.assembly.memory import open_memory
from servers.assembly.rag import open_rag
from servers.assembly.router import open_router
from servers.config import MeshConfig
from servers.domain.caller import Caller
from servers.domain.semantic import Hear
from servers.domain.services import Agents, Ingestions, Memory, Rag, Router, Tools
from servers.kernel import serving
from servers.kernel.health import HealthServicer, Readiness
from servers.kernel.netguard import allow, guarded_client
from servers.kernel.serving import Service, serve
from servers.memory.remote import RemoteMemory
from servers.memory.servicer import MemoryServicer
from servers.rag.remote import RemoteRag
from servers.rag.remote_ingestions import RemoteIngestions
from servers.rag.servicer import OperationsServicer, RagServicer
from servers.router.remote import RemoteRouter
from servers.router.servicer import RouterServicer
from servers.router.wrappers.guard import GuardedRouter
from servers.tools.adapters.builtin import builtin_tools, function_tools
from servers.tools.catalogue import configured_functions, plugin_functions
from servers.tools.remote import RemoteTools
from servers.tools.service import ToolService
from servers.tools.servicer import ToolServicer
from servers.tools.threads import Threads

VERSION = version("astromesh-grpc")

# Asked of the descriptors: reflection knows those only whose modules somebody imports.
_AGENTS = agent_service_pb2.DESCRIPTOR.services_by_name["AgentService"].full_name
_ROUTER = router_service_pb2.DESCRIPTOR.services_by_name["RouterService"].full_name
_MEMORY = memory_service_pb2.DESCRIPTOR.services_by_name["MemoryService"].full_name
_TOOLS = tool_service_pb2.DESCRIPTOR.services_by_name["ToolService"].full_name
_RAG = rag_service_pb2.DESCRIPTOR.services_by_name["RagService"].full_name
_OPERATIONS = "google.longrunning.Operations"
_HEALTH = health_service_pb2.DESCRIPTOR.services_by_name["HealthService"].full_name

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
    rag: Rag
    ingestions: Ingestions
    local: frozenset[str]  # those that this process runs and serves
    drain: Callable[[], Awaitable[None]]  # gives the runs of this process time to end
    key_variables: Callable[[], frozenset[str]] = frozenset  # that callers of the router may name


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
            router = await open_router(config, stack)

        files = Files(config, time.time)

        memory: Memory
        hearing: list[Hear] = []  # what of memory is erased
        if "memory" in config.remote:
            memory = RemoteMemory(await dial("memory"))
        else:
            memory, take_agents = await open_memory(config, stack, router, hearing)
            files.tell_agents(take_agents)

        tools: Tools
        if "tools" in config.remote:
            tools = RemoteTools(await dial("tools"))
        else:
            tools = await _open_tools(config, stack)

        rag: Rag
        ingestions: Ingestions
        if "rag" in config.remote:
            channel = await dial("rag")
            rag, ingestions = RemoteRag(channel), RemoteIngestions(channel)
        else:
            rag, ingestions, take_pipelines = await open_rag(config, stack, router)
            files.tell_pipelines(take_pipelines)

        # The runtime takes Protocols. It cannot tell which branches were taken above.
        agents: Agents
        drain = _nothing_to_drain
        if "agents" in config.remote:
            agents = RemoteAgents(await dial("agents"))
        else:
            runtime, take_agents = await open_agents(
                config, files.declaring, stack, router, memory, tools, rag, hearing
            )
            agents, drain = runtime, runtime.drain
            files.tell_agents(take_agents)

        await stack.enter_async_context(files.watched())
        yield Mesh(agents, router, memory, tools, rag, ingestions, config.local, drain, files.keys)


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


async def _nothing_to_drain() -> None:
    """The runs are another process's."""


@asynccontextmanager
async def serve_mesh(mesh: Mesh, *, host: str = "127.0.0.1", port: int) -> AsyncIterator[int]:
    """Serve the services placed here on one port, and give it.

    On leaving, runs get time to end before their calls are cut.
    """
    served = [service for name, service in _services(mesh).items() if name in mesh.local]
    if "rag" in mesh.local:
        served.append(
            _service(
                _OPERATIONS,
                operations_pb2_grpc.add_OperationsServicer_to_server,
                OperationsServicer(mesh.ingestions),
            )
        )
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
        "rag": _service(
            _RAG,
            rag_service_pb2_grpc.add_RagServiceServicer_to_server,
            RagServicer(mesh.rag, mesh.ingestions),
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
