"""Models, providers and breakers between the wire and the domain."""

from collections.abc import Iterable

from astromesh.router.v1 import provider_pb2 as pb

from servers.domain.models import (
    BreakerInfo,
    BreakerState,
    Capabilities,
    ModelInfo,
    ProviderInfo,
)
from servers.kernel.chat_wire import refused

_STATES = {
    pb.BREAKER_STATE_CLOSED: BreakerState.CLOSED,
    pb.BREAKER_STATE_OPEN: BreakerState.OPEN,
    pb.BREAKER_STATE_HALF_OPEN: BreakerState.HALF_OPEN,
}
_WIRE_STATES = {state: number for number, state in _STATES.items()}


def models_to(models: Iterable[ModelInfo]) -> pb.ListModelsResponse:
    return pb.ListModelsResponse(models=[_model_to(each) for each in models])


def models_from(wire: pb.ListModelsResponse) -> list[ModelInfo]:
    return [_model_from(each) for each in wire.models]


def _model_to(model: ModelInfo) -> pb.Model:
    able = model.capabilities
    return pb.Model(
        provider=model.provider,
        model=model.model,
        tools=able.tools,
        vision=able.vision,
        json_schema=able.json_schema,
        context_window=able.context_window,
        input_price=model.input_price,
        output_price=model.output_price,
        cached_price=model.cached_price,
        quality_rank=model.quality_rank,
        emulated_tools=able.emulated_tools,
        does=sorted(model.does),
    )


def _model_from(wire: pb.Model) -> ModelInfo:
    return ModelInfo(
        wire.provider,
        wire.model,
        Capabilities(
            tools=wire.tools if wire.HasField("tools") else None,
            vision=wire.vision if wire.HasField("vision") else None,
            json_schema=wire.json_schema if wire.HasField("json_schema") else None,
            context_window=wire.context_window if wire.HasField("context_window") else None,
            emulated_tools=wire.emulated_tools,
        ),
        wire.input_price if wire.HasField("input_price") else None,
        wire.output_price if wire.HasField("output_price") else None,
        wire.cached_price if wire.HasField("cached_price") else None,
        wire.quality_rank if wire.HasField("quality_rank") else None,
        frozenset(wire.does),
    )


def providers_to(providers: Iterable[ProviderInfo]) -> pb.ListProvidersResponse:
    return pb.ListProvidersResponse(providers=[_provider_to(each) for each in providers])


def providers_from(wire: pb.ListProvidersResponse) -> list[ProviderInfo]:
    return [_provider_from(each) for each in wire.providers]


def _provider_to(provider: ProviderInfo) -> pb.Provider:
    return pb.Provider(
        name=provider.name,
        type=provider.kind,
        endpoint=provider.endpoint,
        healthy=provider.healthy,
        detail=provider.detail,
        latency_seconds=provider.latency,
        first_token_seconds=provider.first_token,
        active_calls=provider.active,
        waiting_calls=provider.waiting,
        models=provider.models,
        breakers=[_breaker_to(each) for each in provider.breakers],
    )


def _provider_from(wire: pb.Provider) -> ProviderInfo:
    return ProviderInfo(
        wire.name,
        wire.type,
        wire.endpoint,
        wire.healthy if wire.HasField("healthy") else None,
        wire.detail,
        wire.latency_seconds if wire.HasField("latency_seconds") else None,
        wire.first_token_seconds if wire.HasField("first_token_seconds") else None,
        wire.active_calls,
        wire.waiting_calls,
        tuple(wire.models),
        tuple(_breaker_from(each) for each in wire.breakers),
    )


def state_from(wire: "pb.BreakerState.ValueType") -> BreakerState:
    if wire not in _STATES:
        raise refused("state", "say BREAKER_STATE_OPEN or BREAKER_STATE_CLOSED")
    return _STATES[wire]


def state_to(state: BreakerState) -> "pb.BreakerState.ValueType":
    return _WIRE_STATES[state]


def breakers_to(breakers: Iterable[BreakerInfo]) -> pb.UpdateBreakerResponse:
    return pb.UpdateBreakerResponse(breakers=[_breaker_to(each) for each in breakers])


def breakers_from(wire: pb.UpdateBreakerResponse) -> list[BreakerInfo]:
    return [_breaker_from(each) for each in wire.breakers]


def _breaker_to(breaker: BreakerInfo) -> pb.Breaker:
    return pb.Breaker(
        provider=breaker.provider,
        model=breaker.model,
        endpoint=breaker.endpoint,
        state=_WIRE_STATES[breaker.state],
        failures=breaker.failures,
        retry_after_seconds=breaker.retry_after,
        forced=breaker.forced,
    )


def _breaker_from(wire: pb.Breaker) -> BreakerInfo:
    return BreakerInfo(
        wire.provider,
        wire.model,
        wire.endpoint,
        _STATES.get(wire.state, BreakerState.CLOSED),
        wire.failures,
        wire.retry_after_seconds,
        wire.forced,
    )
