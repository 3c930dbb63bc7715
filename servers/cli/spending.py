"""What calls used, and how far budgets are spent, as `astromesh usage` and `budgets` show it."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from astromesh.router.v1 import spending_pb2 as pb
from astromesh.router.v1.router_service_pb2_grpc import RouterServiceStub

from servers.cli.choices import Output
from servers.cli.client import PATIENCE, connected
from servers.cli.output import Columns, show_all
from servers.kernel.errors import InvalidInput

_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_SUMS: Columns = {
    "CALLS": lambda row: row.calls,
    "READ": lambda row: row.prompt_tokens,
    "WRITTEN": lambda row: row.completion_tokens,
    "CACHED": lambda row: row.cached_tokens,
    "USD": lambda row: f"{row.cost_usd:.6f}",
    "UNPRICED": lambda row: row.unpriced_calls,
}


async def show_usage(
    address: str,
    by: Sequence[str],
    since: str,
    until: str,
    where: dict[str, str],
    form: Output,
) -> None:
    """`where`: fields of the request, e.g. {"agent": "assistant"}; empty ones mean any."""
    now = datetime.now(UTC)
    request = pb.GetUsageRequest(group_by=by)
    for field, value in where.items():
        setattr(request, field, value)
    if since:
        request.start_time.FromDatetime(moment(since, now))
    if until:
        request.end_time.FromDatetime(moment(until, now))
    async with connected(address) as channel:
        answer = await RouterServiceStub(channel).GetUsage(request, timeout=PATIENCE)
    groups = {name.upper(): _group(name) for name in dict.fromkeys(by)}
    show_all(answer.rows, {**groups, **_SUMS}, form)


async def list_budgets(address: str, name: str, form: Output) -> None:
    async with connected(address) as channel:
        request = pb.ListBudgetsRequest(budget=name)
        answer = await RouterServiceStub(channel).ListBudgets(request, timeout=PATIENCE)
    show_all(answer.counters, _COUNTER, form)


def moment(text: str, now: datetime) -> datetime:
    """Seven days ago for "7d"; else what ISO 8601 says, in UTC where it doesn't say."""
    if found := re.fullmatch(r"(\d{1,6})([mhdw])", text):
        return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(
            f"{text!r} is no time: give 2026-11-24, 2026-11-24T12:00 or 7d (also m, h, w)"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _group(name: str) -> Any:
    return lambda row: row.group.get(name, "")


def _of(counter: pb.BudgetCounter) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(counter.group.items()))


def _money(counter: pb.BudgetCounter) -> str:
    limit = f" of {counter.limit_usd:g}" if counter.HasField("limit_usd") else ""
    return f"{counter.spent_usd:.6f}{limit}"


def _tokens(counter: pb.BudgetCounter) -> str:
    limit = f" of {counter.limit_tokens}" if counter.HasField("limit_tokens") else ""
    return f"{counter.spent_tokens}{limit}"


def _held(counter: pb.BudgetCounter) -> str | None:
    if not (counter.reserved_usd or counter.reserved_tokens):
        return None
    return f"{counter.reserved_usd:.6f} USD, {counter.reserved_tokens} tokens"


def _end(counter: pb.BudgetCounter) -> str | None:
    if not counter.HasField("end_time"):
        return None
    return counter.end_time.ToDatetime().strftime("%Y-%m-%d %H:%M")


_COUNTER: Columns = {
    "BUDGET": lambda counter: counter.budget,
    "OF": _of,
    "WINDOW": lambda counter: counter.window,
    "ACTION": lambda counter: counter.action,
    "USD": _money,
    "TOKENS": _tokens,
    "SET ASIDE": _held,
    "ENDS (UTC)": _end,
}
