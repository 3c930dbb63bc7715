"""One grpc.aio server for any set of services, with what every server of the mesh offers.

Health by service, reflection, limits, access log, errors as statuses, and an orderly end:
first nobody is told to come any more, then calls get time to finish, then they are cut.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import cast

import grpc
from grpc_health.v1 import health_pb2_grpc

from servers.kernel.access import AccessInterceptor
from servers.kernel.errors import NotReady
from servers.kernel.health import ProbedHealth, Readiness
from servers.kernel.reflection import add_reflection
from servers.kernel.status import StatusInterceptor

_MIB = 1 << 20
_HEALTH = "grpc.health.v1.Health"


@dataclass(frozen=True, slots=True)
class Limits:
    message_bytes: int = 4 * _MIB  # of one message that comes in
    answer_bytes: int = 64 * _MIB  # of one that goes out
    calls: int = 10_000  # at work at once; streams count
    streams_per_connection: int = 1000
    grace: float = 10.0  # seconds that calls get to finish when the server stops
    notice: float = 0.0  # seconds between "don't come any more" and refusing those who do


@dataclass(frozen=True, slots=True)
class Service:
    """A gRPC service of this process: `add` registers it with a server."""

    name: str  # "astromesh.agents.v1.AgentService"
    add: Callable[[grpc.aio.Server], None]


@asynccontextmanager
async def serve(
    services: Sequence[Service],
    readiness: Readiness,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    limits: Limits = Limits(),
) -> AsyncIterator[int]:
    """Serve while inside; gives the bound port, which the system chooses for port 0.

    Raises NotReady (PORT_IN_USE, ADDRESS_UNUSABLE).
    """
    server = grpc.aio.server(
        interceptors=[StatusInterceptor(), AccessInterceptor(limits.calls)],
        options=_options(limits),
    )
    for service in services:
        service.add(cast(grpc.aio.Server, _ByName(server)))
    health = ProbedHealth(readiness)
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    add_reflection([*(service.name for service in services), _HEALTH], server)
    bound = _bind(server, host, port)
    await server.start()
    fresh = asyncio.create_task(health.keep_fresh(1.0))
    grace: float | None = limits.grace
    try:
        yield bound
    except asyncio.CancelledError:  # somebody is in a hurry
        grace = None
        raise
    finally:
        fresh.cancel()
        readiness.stop()
        health.refresh()
        await _stop(server, limits.notice if grace else 0.0, grace)
        with suppress(asyncio.CancelledError):
            await fresh


async def _stop(server: grpc.aio.Server, notice: float, grace: float | None) -> None:
    try:
        await asyncio.sleep(notice)
        await server.stop(grace)
    except asyncio.CancelledError:
        await server.stop(None)
        raise


class _ByName:
    """A server whose methods are found by name when they are called.

    Registered methods gain nothing in Python, and cost: grpc.aio waits for a call of each
    of them anew at every call of any (6 to 9 % of the CPU of a server with our methods).
    """

    def __init__(self, server: grpc.aio.Server) -> None:
        self.add_generic_rpc_handlers = server.add_generic_rpc_handlers

    def add_registered_method_handlers(self, *handlers: object) -> None:
        pass


def _options(limits: Limits) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),  # a port that is taken must be an error
        ("grpc.max_receive_message_length", limits.message_bytes),
        ("grpc.max_send_message_length", limits.answer_bytes),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.max_metadata_size", 16 * 1024),
        # Find dead peers, and put up with clients that look for us.
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    ]


def _bind(server: grpc.aio.Server, host: str, port: int) -> int:
    _refuse_taken(host, port)
    try:
        return server.add_insecure_port(f"{host}:{port}")
    except RuntimeError as error:  # somebody was faster by a moment
        raise _taken(host, port) from error


def _refuse_taken(host: str, port: int) -> None:
    """grpc would print several lines of its own before it raises."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), port))
        except OSError as error:
            raise _taken(host, port, error.strerror or "in use") from error


def _taken(host: str, port: int, why: str = "Address already in use") -> NotReady:
    return NotReady(
        f"can't listen on {host}:{port} ({why}): stop what uses it, "
        "or choose another port with --grpc-port",
        reason="PORT_IN_USE",
        port=str(port),
    )
