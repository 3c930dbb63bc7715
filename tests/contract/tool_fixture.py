"""What the tests of tools share: a tool service, reached both ways."""

import json
from contextlib import asynccontextmanager

import grpc
import pytest
from astromesh.tools.v1 import tool_service_pb2_grpc

from servers.domain.caller import Caller
from servers.domain.tools import ToolRequest
from servers.kernel.status import StatusInterceptor
from servers.tools.adapters.function import FunctionTool
from servers.tools.declare import tool
from servers.tools.remote import RemoteTools
from servers.tools.service import ToolService
from servers.tools.servicer import ToolServicer
from servers.tools.threads import Threads

ME = Caller("acme", "ada")


@asynccontextmanager
async def in_process(service):
    yield service


@asynccontextmanager
async def served(service):
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    tool_service_pb2_grpc.add_ToolServiceServicer_to_server(ToolServicer(service), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await server.stop(None)


@asynccontextmanager
async def over_the_wire(service):
    async with served(service) as channel:
        yield RemoteTools(channel)


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@tool(idempotent=True, timeout=7.0)
def add(a: int, b: int = 1) -> int:
    """Add two numbers.

    Args:
        a: the first
        b: the second
    """
    return a + b


async def shout(text: str) -> str:
    """Say it loudly."""
    return text.upper()


def tools(*functions, threads: int = 4, **options) -> ToolService:
    pool = Threads(threads)
    return ToolService([FunctionTool(each, pool) for each in functions], **options)


def ask(name: str, options: dict | None = None, **arguments) -> ToolRequest:
    return ToolRequest(name, json.dumps(arguments), **(options or {}))
