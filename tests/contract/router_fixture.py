"""A router as its callers reach it: called directly, or over a real gRPC socket."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path

import grpc
import pytest
from astromesh.router.v1 import router_service_pb2_grpc

from servers.domain.chat import ChatRequest, ModelRef, Role, says
from servers.domain.models import Capabilities
from servers.domain.services import Router
from servers.kernel.status import StatusInterceptor
from servers.router.adapters.pool import open_providers
from servers.router.ports import Hedging, ModelSettings, ProviderSettings, Retries, RouterSettings
from servers.router.remote import RemoteRouter
from servers.router.routing.prices import PriceList
from servers.router.service import ModelRouter
from servers.router.servicer import RouterServicer

QUICK = Hedging(min_delay=0.01)

Reach = Callable[[Router], contextlib.AbstractAsyncContextManager[Router]]


@contextlib.asynccontextmanager
async def in_process(router: Router) -> AsyncIterator[Router]:
    yield router


@contextlib.asynccontextmanager
async def over_the_wire(router: Router) -> AsyncIterator[Router]:
    server = grpc.aio.server(interceptors=[StatusInterceptor()])
    router_service_pb2_grpc.add_RouterServiceServicer_to_server(RouterServicer(router), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield RemoteRouter(channel)
    await server.stop(None)


class Clock:
    """Time that moves when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def provider(name: str, endpoint: str, *models: str, **more) -> ProviderSettings:
    declared = tuple(ModelSettings(model) for model in models or ("m",))
    return ProviderSettings(name, "openai_compat", endpoint, models=declared, **more)


@contextlib.asynccontextmanager
async def router(
    reach: Reach,
    folder: Path,
    *providers: ProviderSettings,
    env: Mapping[str, str] | None = None,
    prices: PriceList | None = None,
    clock: Callable[[], float] | None = None,
    wrapped: Callable[[Router], Router] = lambda bare: bare,
    **settings,
) -> AsyncIterator[Router]:
    """The real router over the real adapters; only the model servers are scripted."""
    settings = {"retries": Retries(max_retries=0), **settings}  # so that calls can be counted
    declared = RouterSettings({each.name: each for each in providers}, **settings)
    async with open_providers(folder) as pool:
        real = ModelRouter(
            declared, pool, env=env or {}, prices=prices, **({"now": clock} if clock else {})
        )
        async with reach(wrapped(real)) as reached:
            yield reached


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def opened(request, tmp_path):
    """Opens a router over providers, reached in one way or the other."""
    return partial(router, request.param, tmp_path)


def ask(*providers: str, **more) -> ChatRequest:
    candidates = tuple(ModelRef(each, "m") for each in providers)
    return ChatRequest((says(Role.USER, "hello"),), candidates, **more)


def able(name: str, endpoint: str, *, price=None, rank=None, **capabilities) -> ProviderSettings:
    """A provider whose one model declares what it can do."""
    model = ModelSettings("m", Capabilities(**capabilities), price, rank)
    return ProviderSettings(name, "openai_compat", endpoint, models=(model,))


async def answered(models, request: ChatRequest) -> str:
    return (await models.complete(request)).finish.provider


async def streamed(models, request: ChatRequest) -> list:
    return [step async for step in models.stream(request)]
