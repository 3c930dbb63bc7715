"""Models, providers, breakers, usage and budgets between the wire and the domain."""

from collections.abc import Iterable

from astromesh.router.v1 import provider_pb2 as pb
from astromesh.router.v1 import spending_pb2

from servers.domain.chat import Usage
from servers.domain.models import (
    BreakerInfo,
    BreakerState,
    Capabilities,
    ModelInfo,
    ProviderInfo,
)
from servers.domain.usage import BudgetAction, BudgetState, UsageQuery, UsageRow, Window
from servers.kernel.chat_wire import refused, time_from, time_to

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


# -- usage and budgets ---------------------------------------------------------------------


def query_from(wire: spending_pb2.GetUsageRequest, tenant: str) -> UsageQuery:
    """Nobody sees what another tenant used."""
    said = {
        "agent": wire.agent,
        "model": wire.model,
        "provider": wire.provider,
        "principal": wire.principal,
        "session": wire.session_id,
        "run": wire.run_id,
    }
    return UsageQuery(
        time_from(wire.start_time) if wire.HasField("start_time") else 0.0,
        time_from(wire.end_time) if wire.HasField("end_time") else None,
        {"tenant": tenant, **{name: value for name, value in said.items() if value}},
        tuple(wire.group_by),
    )


def query_to(query: UsageQuery) -> spending_pb2.GetUsageRequest:
    """The tenant travels as metadata."""
    where = query.where
    return spending_pb2.GetUsageRequest(
        start_time=time_to(query.since) if query.since else None,
        end_time=None if query.until is None else time_to(query.until),
        agent=where.get("agent", ""),
        model=where.get("model", ""),
        provider=where.get("provider", ""),
        principal=where.get("principal", ""),
        session_id=where.get("session", ""),
        run_id=where.get("run", ""),
        group_by=query.group_by,
    )


def usage_rows_to(rows: Iterable[UsageRow]) -> spending_pb2.GetUsageResponse:
    return spending_pb2.GetUsageResponse(rows=[_usage_row_to(each) for each in rows])


def usage_rows_from(wire: spending_pb2.GetUsageResponse) -> list[UsageRow]:
    return [_usage_row_from(each) for each in wire.rows]


def _usage_row_to(row: UsageRow) -> spending_pb2.UsageRow:
    used = row.usage
    return spending_pb2.UsageRow(
        group=row.group,
        calls=row.calls,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cached_tokens=used.cached_tokens,
        cost_usd=used.cost_usd or 0.0,
        unpriced_calls=row.unpriced_calls,
    )


def _usage_row_from(wire: spending_pb2.UsageRow) -> UsageRow:
    usage = Usage(wire.prompt_tokens, wire.completion_tokens, wire.cached_tokens, wire.cost_usd)
    return UsageRow(dict(wire.group), wire.calls, usage, wire.unpriced_calls)


def budgets_to(counters: Iterable[BudgetState]) -> spending_pb2.ListBudgetsResponse:
    return spending_pb2.ListBudgetsResponse(counters=[_counter_to(each) for each in counters])


def budgets_from(wire: spending_pb2.ListBudgetsResponse) -> list[BudgetState]:
    return [_counter_from(each) for each in wire.counters]


def _counter_to(counter: BudgetState) -> spending_pb2.BudgetCounter:
    return spending_pb2.BudgetCounter(
        budget=counter.name,
        group=counter.group,
        window=counter.window.value,
        action=counter.action.value,
        start_time=time_to(counter.starts_at) if counter.ends_at else None,
        end_time=time_to(counter.ends_at) if counter.ends_at else None,
        limit_usd=counter.limit_usd,
        spent_usd=counter.spent_usd,
        reserved_usd=counter.reserved_usd,
        limit_tokens=counter.limit_tokens,
        spent_tokens=counter.spent_tokens,
        reserved_tokens=counter.reserved_tokens,
    )


def _counter_from(wire: spending_pb2.BudgetCounter) -> BudgetState:
    return BudgetState(
        wire.budget,
        dict(wire.group),
        Window(wire.window),
        BudgetAction(wire.action),
        time_from(wire.start_time),
        time_from(wire.end_time) if wire.HasField("end_time") else None,
        wire.limit_usd if wire.HasField("limit_usd") else None,
        wire.spent_usd,
        wire.reserved_usd,
        wire.limit_tokens if wire.HasField("limit_tokens") else None,
        wire.spent_tokens,
        wire.reserved_tokens,
    )
