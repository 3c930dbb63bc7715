"""Usage and budgets between the wire and the domain."""

from collections.abc import Iterable

from astromesh.router.v1 import spending_pb2 as pb

from servers.domain.chat import Usage
from servers.domain.usage import BudgetAction, BudgetState, UsageQuery, UsageRow, Window
from servers.kernel.chat_wire import time_from, time_to


def query_from(wire: pb.GetUsageRequest, tenant: str) -> UsageQuery:
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


def query_to(query: UsageQuery) -> pb.GetUsageRequest:
    """The tenant travels as metadata."""
    where = query.where
    return pb.GetUsageRequest(
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


def usage_rows_to(rows: Iterable[UsageRow]) -> pb.GetUsageResponse:
    return pb.GetUsageResponse(rows=[_usage_row_to(each) for each in rows])


def usage_rows_from(wire: pb.GetUsageResponse) -> list[UsageRow]:
    return [_usage_row_from(each) for each in wire.rows]


def _usage_row_to(row: UsageRow) -> pb.UsageRow:
    used = row.usage
    return pb.UsageRow(
        group=row.group,
        calls=row.calls,
        prompt_tokens=used.prompt_tokens,
        completion_tokens=used.completion_tokens,
        cached_tokens=used.cached_tokens,
        cost_usd=used.cost_usd or 0.0,
        unpriced_calls=row.unpriced_calls,
    )


def _usage_row_from(wire: pb.UsageRow) -> UsageRow:
    usage = Usage(wire.prompt_tokens, wire.completion_tokens, wire.cached_tokens, wire.cost_usd)
    return UsageRow(dict(wire.group), wire.calls, usage, wire.unpriced_calls)


def budgets_to(counters: Iterable[BudgetState]) -> pb.ListBudgetsResponse:
    return pb.ListBudgetsResponse(counters=[_counter_to(each) for each in counters])


def budgets_from(wire: pb.ListBudgetsResponse) -> list[BudgetState]:
    return [_counter_from(each) for each in wire.counters]


def _counter_to(counter: BudgetState) -> pb.BudgetCounter:
    return pb.BudgetCounter(
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


def _counter_from(wire: pb.BudgetCounter) -> BudgetState:
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
