"""Providers of a mesh and their breakers, as `astromesh providers` shows them."""

from astromesh.router.v1 import provider_pb2 as pb
from astromesh.router.v1.router_service_pb2_grpc import RouterServiceStub

from servers.cli.choices import Output
from servers.cli.client import PATIENCE, connected
from servers.cli.output import Columns, show_all


def _state(breaker: pb.Breaker) -> str:
    name = pb.BreakerState.Name(breaker.state).removeprefix("BREAKER_STATE_").lower()
    return f"{name} by hand" if breaker.forced else name


def _breakers(provider: pb.Provider) -> str:
    return ", ".join(f"{each.model} {_state(each)}" for each in provider.breakers)


def _seconds(provider: pb.Provider, field: str) -> str | None:
    return f"{getattr(provider, field):.3f}" if provider.HasField(field) else None  # type: ignore[arg-type]  # one of its fields


_PROVIDER: Columns = {
    "NAME": lambda provider: provider.name,
    "TYPE": lambda provider: provider.type,
    "HEALTHY": lambda provider: provider.healthy if provider.HasField("healthy") else None,
    "FIRST S": lambda provider: _seconds(provider, "first_token_seconds"),
    "WHOLE S": lambda provider: _seconds(provider, "latency_seconds"),
    "ACTIVE": lambda provider: provider.active_calls,
    "WAITING": lambda provider: provider.waiting_calls,
    "BREAKERS": _breakers,
    "DETAIL": lambda provider: provider.detail,
}
_BREAKER: Columns = {
    "PROVIDER": lambda breaker: breaker.provider,
    "MODEL": lambda breaker: breaker.model,
    "STATE": _state,
    "FAILURES": lambda breaker: breaker.failures,
}


async def list_providers(address: str, form: Output) -> None:
    async with connected(address) as channel:
        request = pb.ListProvidersRequest()
        answer = await RouterServiceStub(channel).ListProviders(request, timeout=PATIENCE)
    show_all(answer.providers, _PROVIDER, form)


async def update_breaker(address: str, provider: str, model: str, state: str, form: Output) -> None:
    async with connected(address) as channel:
        request = pb.UpdateBreakerRequest(
            provider=provider, model=model, state=pb.BreakerState.Value("BREAKER_STATE_" + state)
        )
        answer = await RouterServiceStub(channel).UpdateBreaker(request, timeout=PATIENCE)
    show_all(answer.breakers, _BREAKER, form)
