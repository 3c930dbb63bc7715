"""Router values between the wire and the domain. Total functions, no decisions, no I/O."""

from collections.abc import Iterable
from typing import TypeAlias

from astromesh.router.v1 import router_service_pb2 as pb

from servers.domain.chat import (
    ChatRequest,
    Completion,
    Finish,
    ModelRef,
    ReasoningPiece,
    Step,
    TextPiece,
)
from servers.domain.models import (
    BreakerInfo,
    BreakerState,
    Capabilities,
    ModelInfo,
    ProviderInfo,
)
from servers.kernel import chat_wire
from servers.kernel.chat_wire import refused

Question: TypeAlias = pb.CompleteRequest | pb.StreamCompleteRequest

_STATES = {
    pb.BREAKER_STATE_CLOSED: BreakerState.CLOSED,
    pb.BREAKER_STATE_OPEN: BreakerState.OPEN,
    pb.BREAKER_STATE_HALF_OPEN: BreakerState.HALF_OPEN,
}
_WIRE_STATES = {state: number for number, state in _STATES.items()}


def request_from(wire: Question) -> ChatRequest:
    return ChatRequest(
        chat_wire.messages_from(wire.messages),
        tuple(_candidate_from(each) for each in wire.candidates),
        wire.strategy,
        chat_wire.tool_specs_from(wire.tools),
        chat_wire.sampling_from(wire.sampling),
    )


def complete_to(request: ChatRequest) -> pb.CompleteRequest:
    return pb.CompleteRequest(
        messages=chat_wire.messages_to(request.messages),
        candidates=[_candidate_to(each) for each in request.candidates],
        strategy=request.strategy,
        tools=chat_wire.tool_specs_to(request.tools),
        sampling=chat_wire.sampling_to(request.sampling),
    )


def stream_to(request: ChatRequest) -> pb.StreamCompleteRequest:
    return pb.StreamCompleteRequest(
        messages=chat_wire.messages_to(request.messages),
        candidates=[_candidate_to(each) for each in request.candidates],
        strategy=request.strategy,
        tools=chat_wire.tool_specs_to(request.tools),
        sampling=chat_wire.sampling_to(request.sampling),
    )


def _candidate_from(wire: pb.ModelCandidate) -> ModelRef:
    return ModelRef(
        wire.provider,
        wire.model,
        wire.endpoint,
        wire.api_key_env,
        wire.api_key,
        wire.timeout_seconds if wire.HasField("timeout_seconds") else None,
        wire.context_window if wire.HasField("context_window") else None,
        chat_wire.sampling_from(wire.sampling),
    )


def _candidate_to(ref: ModelRef) -> pb.ModelCandidate:
    return pb.ModelCandidate(
        provider=ref.provider,
        model=ref.model,
        endpoint=ref.endpoint,
        api_key_env=ref.api_key_env,
        api_key=ref.api_key,
        timeout_seconds=ref.timeout,
        context_window=ref.context_window,
        sampling=chat_wire.sampling_to(ref.sampling),
    )


# -- answers -------------------------------------------------------------------------------


def completion_to(completion: Completion) -> pb.CompleteResponse:
    return pb.CompleteResponse(
        message=chat_wire.message_to(completion.message), finish=_finish_to(completion.finish)
    )


def completion_from(wire: pb.CompleteResponse) -> Completion:
    return Completion(chat_wire.message_from(wire.message), _finish_from(wire.finish))


def step_to(step: Step) -> pb.StreamCompleteResponse:
    match step:
        case TextPiece(text):
            return pb.StreamCompleteResponse(text=text)
        case ReasoningPiece(text):
            return pb.StreamCompleteResponse(reasoning=text)
        case Finish():
            return pb.StreamCompleteResponse(finish=_finish_to(step))


def step_from(wire: pb.StreamCompleteResponse) -> Step | None:
    """None for a step that a newer server knows and we don't."""
    match wire.WhichOneof("step"):
        case "text":
            return TextPiece(wire.text)
        case "reasoning":
            return ReasoningPiece(wire.reasoning)
        case "finish":
            return _finish_from(wire.finish)
    return None


def _finish_to(finish: Finish) -> pb.Finish:
    return pb.Finish(
        reason=chat_wire.finish_reason_to(finish.reason),
        tool_calls=chat_wire.tool_calls_to(finish.tool_calls),
        usage=chat_wire.usage_to(finish.usage),
        provider=finish.provider,
        model=finish.model,
    )


def _finish_from(wire: pb.Finish) -> Finish:
    return Finish(
        chat_wire.finish_reason_from(wire.reason),
        chat_wire.tool_calls_from(wire.tool_calls),
        chat_wire.usage_from(wire.usage),
        wire.provider,
        wire.model,
    )


# -- models, providers, breakers -----------------------------------------------------------


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
        ),
        wire.input_price if wire.HasField("input_price") else None,
        wire.output_price if wire.HasField("output_price") else None,
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
