"""The record of what calls used, in a SQLite file. Satisfies `budgets.records.Record`."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

from servers.domain.chat import Usage
from servers.domain.usage import UsageQuery, UsageRow
from servers.kernel.errors import InvalidInput
from servers.kernel.sqlite import Database
from servers.router.budgets.amounts import MOST, NANO, Amount, nano
from servers.router.budgets.records import Entry

MIGRATIONS = (
    """
    CREATE TABLE usage(
        id INTEGER PRIMARY KEY,
        time_ms INTEGER NOT NULL,  -- when the call was reserved, since the epoch
        tenant TEXT NOT NULL,
        principal TEXT NOT NULL,
        agent TEXT NOT NULL,
        session TEXT NOT NULL,
        run TEXT NOT NULL,
        provider TEXT NOT NULL,
        model TEXT NOT NULL,
        operation TEXT NOT NULL,
        outcome TEXT NOT NULL,
        prompt_tokens INTEGER NOT NULL,
        completion_tokens INTEGER NOT NULL,
        cached_tokens INTEGER NOT NULL,
        cost_nano INTEGER,         -- billionths of a US dollar; NULL where the price is unknown
        estimated INTEGER NOT NULL
    );
    CREATE INDEX usage_by_tenant ON usage(tenant, time_ms);
    CREATE INDEX usage_by_time ON usage(time_ms);
    CREATE INDEX usage_by_run ON usage(run, tenant);
    """,
)
MOST_ROWS = 10_000  # of one answer

# All that may stand in a statement besides these texts are parameters.
_COLUMNS = {
    name: name for name in ("tenant", "principal", "agent", "session", "run", "provider", "model")
} | {
    "hour": "strftime('%Y-%m-%dT%H:00Z', time_ms / 1000, 'unixepoch')",
    "day": "strftime('%Y-%m-%d', time_ms / 1000, 'unixepoch')",
    "month": "strftime('%Y-%m', time_ms / 1000, 'unixepoch')",
}
_ADD = (
    "INSERT INTO usage(time_ms, tenant, principal, agent, session, run, provider, model, "
    "operation, outcome, prompt_tokens, completion_tokens, cached_tokens, cost_nano, estimated) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_SUMS = (
    "count(*), sum(prompt_tokens), sum(completion_tokens), sum(cached_tokens), "
    "ifnull(sum(cost_nano), 0), sum(cost_nano IS NULL)"
)
_AMOUNTS = "ifnull(sum(cost_nano), 0), ifnull(sum(prompt_tokens + completion_tokens), 0)"
_FORGET = (
    "DELETE FROM usage WHERE id IN "
    "(SELECT id FROM usage WHERE time_ms < ? ORDER BY time_ms LIMIT ?)"
)


class SqliteUsage:
    """Needs a database that was opened with MIGRATIONS."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, entries: Sequence[Entry]) -> None:
        rows = [_row(entry) for entry in entries]

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(_ADD, rows)

        await self._database.write(work)

    async def rows(self, query: UsageQuery) -> Sequence[UsageRow]:
        groups = tuple(dict.fromkeys(query.group_by))
        where, values = _where(query.since, query.until, query.where)
        sql = f"SELECT {_listed(groups, _SUMS)} FROM usage{where}{_grouped(groups)} LIMIT ?"
        found = await self._read(sql, (*values, MOST_ROWS + 1))
        if len(found) > MOST_ROWS:
            raise InvalidInput(
                f"these are more than {MOST_ROWS} rows: group by less, or ask for less at a time"
            )
        return [_usage_row(groups, row) for row in found if row[len(groups)]]

    async def totals(
        self, dimensions: Sequence[str], since: float, where: Mapping[str, str]
    ) -> Sequence[tuple[Mapping[str, str], Amount]]:
        condition, values = _where(since, None, where)
        sql = f"SELECT {_listed(dimensions, _AMOUNTS)} FROM usage{condition}{_grouped(dimensions)}"
        return [
            (dict(zip(dimensions, row, strict=False)), Amount(*row[len(dimensions) :]))
            for row in await self._read(sql, values)
        ]

    async def forget(self, before: float, most: int) -> int:
        def work(connection: sqlite3.Connection) -> int:
            return connection.execute(_FORGET, (_milliseconds(before), most)).rowcount

        return await self._database.write(work)

    async def _read(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        return await self._database.read(lambda c: c.execute(sql, values).fetchall())


def _row(entry: Entry) -> tuple[Any, ...]:
    account, usage = entry.account, entry.usage
    return (
        _milliseconds(entry.at),
        account.tenant,
        account.principal,
        account.agent,
        account.session,
        account.run,
        entry.provider,
        entry.model,
        entry.operation,
        entry.outcome,
        *(
            min(max(count, 0), MOST)
            for count in (usage.prompt_tokens, usage.completion_tokens, usage.cached_tokens)
        ),
        None if usage.cost_usd is None else nano(usage.cost_usd),
        usage.estimated,
    )


def _usage_row(groups: Sequence[str], row: Sequence[Any]) -> UsageRow:
    calls, prompt, completion, cached, cost, unpriced = row[len(groups) :]
    usage = Usage(prompt, completion, cached, cost / NANO)
    return UsageRow(dict(zip(groups, row, strict=False)), calls, usage, unpriced)


def _listed(groups: Iterable[str], sums: str) -> str:
    return ", ".join([*(_COLUMNS[name] for name in groups), sums])


def _grouped(groups: Sequence[str]) -> str:
    """By number: rows in the order of their groups."""
    numbers = ", ".join(str(number) for number, _ in enumerate(groups, 1))
    return f" GROUP BY {numbers} ORDER BY {numbers}" if groups else ""


def _where(
    since: float, until: float | None, where: Mapping[str, str]
) -> tuple[str, tuple[str | int, ...]]:
    conditions: list[tuple[str, str | int]] = [
        (f"{_COLUMNS[name]} = ?", value) for name, value in where.items()
    ]
    if since > 0:
        conditions.append(("time_ms >= ?", _milliseconds(since)))
    if until is not None:
        conditions.append(("time_ms < ?", ceil(until * 1000)))
    if not conditions:
        return "", ()
    texts = " AND ".join(text for text, _ in conditions)
    return f" WHERE {texts}", tuple(value for _, value in conditions)


def _milliseconds(time: float) -> int:
    return int(time * 1000)
