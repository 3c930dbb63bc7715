"""What the record of usage promises: nothing is lost, and sums are right."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from servers.domain.caller import Account
from servers.domain.chat import Usage
from servers.domain.usage import UsageQuery, UsageRow
from servers.kernel.errors import InvalidInput
from servers.kernel.sqlite import open_database
from servers.router.adapters.sqlite_usage import MIGRATIONS, MOST_ROWS, SqliteUsage
from servers.router.budgets.records import Entry
from servers.router.budgets.retention import forget_once
from servers.router.ports import Cost
from tests.contract.spending_fixture import ANYBODY, NOON, Clock, books
from tests.patience import PATIENCE

DAY = 86400.0


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def kept(tmp_path, clock):
    async with books(tmp_path, clock=clock) as opened:
        yield opened


@pytest.fixture
async def record(tmp_path):
    async with open_database(tmp_path / "usage.db", MIGRATIONS) as database:
        yield SqliteUsage(database)


async def call(kept, usage: Usage, account: Account = ANYBODY, model: str = "m", outcome="ok"):
    reservation = await kept.reserve(account, "company", model, Cost(0, None))
    await reservation.settle(usage, "chat", outcome)


def entry(at: float, **more) -> Entry:
    made = Entry(at, ANYBODY, "company", "m", "chat", "ok", Usage(10, 20, 5, 0.25))
    return replace(made, **more)


def rows_in(folder) -> list[tuple]:
    with closing(sqlite3.connect(folder / "usage.db")) as connection:
        return connection.execute(
            "SELECT time_ms, tenant, principal, agent, session, run, provider, model, operation, "
            "outcome, prompt_tokens, completion_tokens, cached_tokens, cost_nano, estimated "
            "FROM usage ORDER BY id"
        ).fetchall()


class TestACall:
    async def test_is_a_row_with_all_that_is_known_of_it(self, kept, tmp_path):
        await call(kept, Usage(7, 3, 2, 0.000125, True), outcome="cut_off")
        await kept.journal.on_disk()
        assert rows_in(tmp_path) == [
            (
                int(NOON * 1000),
                *("acme", "ann", "helper", "s-1", "r-1", "company", "m", "chat", "cut_off"),
                *(7, 3, 2, 125_000, 1),
            )
        ]

    async def test_that_was_released_is_none(self, kept, tmp_path):
        await (await kept.reserve(ANYBODY, "company", "m", Cost(5, None))).release()
        await kept.journal.on_disk()
        assert rows_in(tmp_path) == []

    async def test_is_on_disk_soon_though_nobody_asks(self, kept, tmp_path):
        await call(kept, Usage(1, 1))
        async with asyncio.timeout(PATIENCE):
            while not rows_in(tmp_path):  # noqa: ASYNC110  # a file tells nobody
                await asyncio.sleep(0.01)

    async def test_is_on_disk_once_the_books_are_closed(self, tmp_path):
        async with books(tmp_path) as kept:
            for _ in range(2500):
                await call(kept, Usage(1, 1))
        assert len(rows_in(tmp_path)) == 2500

    async def test_that_cannot_be_written_takes_no_other_along(self, tmp_path):
        async with books(tmp_path) as kept:
            for model in ("a", "half a pair \ud800", "b"):
                await call(kept, Usage(1, 1), model=model)
        assert [row[7] for row in rows_in(tmp_path)] == ["a", "b"]

    async def test_is_counted_from_when_it_was_reserved(self, kept, clock, tmp_path):
        reservation = await kept.reserve(ANYBODY, "company", "m", Cost(5, None))
        clock.now += DAY
        await reservation.settle(Usage(1, 1), "embed")
        await kept.journal.on_disk()
        assert [row[0] for row in rows_in(tmp_path)] == [int(NOON * 1000)]


class TestSums:
    async def test_are_of_all_calls(self, kept):
        await call(kept, Usage(10, 5, 2, 0.25))
        await call(kept, Usage(20, 5, 0, 0.5))
        await call(kept, Usage(1, 1))
        assert await kept.usage(UsageQuery()) == [UsageRow({}, 3, Usage(31, 11, 2, 0.75), 1)]

    async def test_are_none_where_nothing_was_used(self, kept):
        assert await kept.usage(UsageQuery()) == []
        assert await kept.usage(UsageQuery(group_by=("model",))) == []

    async def test_are_exact_however_many_there_are(self, record):
        await record.add([entry(NOON, usage=Usage(1, 0, 0, 0.000_000_1))] * 10_000)
        (row,) = await record.rows(UsageQuery())
        assert row.usage.cost_usd == 0.001

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("tenant", ["acme", "other"]),
            ("principal", ["ann", "bob"]),
            ("agent", ["helper", "writer"]),
            ("session", ["s-1", "s-2"]),
            ("run", ["r-1", "r-2"]),
            ("provider", ["company", "elsewhere"]),
            ("model", ["m", "n"]),
            ("hour", ["2026-11-25T12:00Z", "2027-01-03T00:00Z"]),
            ("day", ["2026-11-25", "2027-01-03"]),
            ("month", ["2026-11", "2027-01"]),
        ],
    )
    async def test_are_made_for_each(self, record, name, values):
        other = entry(
            1_798_934_400.0,  # 2027-01-03T00:00:00Z
            account=Account("other", "bob", "writer", "s-2", "r-2"),
            provider="elsewhere",
            model="n",
        )
        await record.add([other, entry(NOON), other])
        rows = await record.rows(UsageQuery(group_by=(name,)))
        assert [(row.group, row.calls) for row in rows] == [
            ({name: values[0]}, 1),
            ({name: values[1]}, 2),
        ]

    async def test_are_made_for_each_combination_in_order(self, record):
        await record.add([entry(NOON + day * DAY, model=m) for day in (1, 0) for m in "ba"])
        rows = await record.rows(UsageQuery(group_by=("model", "day")))
        assert [tuple(row.group.values()) for row in rows] == [
            ("a", "2026-11-25"),
            ("a", "2026-11-26"),
            ("b", "2026-11-25"),
            ("b", "2026-11-26"),
        ]

    @pytest.mark.parametrize(
        ("name", "value", "calls"),
        [
            ("tenant", "acme", 2),
            ("tenant", "' OR 1=1 --", 0),
            ("principal", "ann", 2),
            ("agent", "helper", 2),
            ("session", "s-1", 2),
            ("run", "r-1", 2),
            ("run", "", 1),
            ("provider", "company", 3),
            ("model", "m", 3),
        ],
    )
    async def test_are_of_those_asked_for(self, record, name, value, calls):
        others = entry(NOON, account=Account("other", "bob", "writer", "s-2", ""))
        await record.add([entry(NOON), entry(NOON), others])
        found = await record.rows(UsageQuery(where={name: value}))
        assert sum(row.calls for row in found) == calls

    async def test_are_of_the_time_asked_for_without_its_end(self, record):
        await record.add([entry(NOON + second) for second in range(5)])
        found = await record.rows(UsageQuery(since=NOON + 1, until=NOON + 4))
        assert [row.calls for row in found] == [3]

    async def test_know_what_was_settled_a_moment_ago(self, kept):
        await call(kept, Usage(1, 1))
        assert [row.calls for row in await kept.usage(UsageQuery())] == [1]


class TestWhatNobodyCanAnswer:
    async def test_is_a_dimension_that_does_not_exist(self, kept):
        with pytest.raises(InvalidInput, match=r"'modle' is none of tenant, .*mean 'model'"):
            await kept.usage(UsageQuery(group_by=("modle",)))

    async def test_is_a_column_of_the_database(self, kept):
        for name in ("id", "cost_nano", "model; DROP TABLE usage"):
            with pytest.raises(InvalidInput):
                await kept.usage(UsageQuery(group_by=(name,)))
            with pytest.raises(InvalidInput):
                await kept.usage(UsageQuery(where={name: "x"}))

    @pytest.mark.parametrize("until", [NOON, NOON - 1])
    async def test_is_a_time_that_ends_before_it_begins(self, kept, until):
        with pytest.raises(InvalidInput, match="ends before it begins"):
            await kept.usage(UsageQuery(since=NOON, until=until))

    async def test_is_more_than_anybody_reads(self, record):
        most = [entry(NOON, model=str(number)) for number in range(MOST_ROWS + 1)]
        await record.add(most[1:])
        assert len(await record.rows(UsageQuery(group_by=("model",)))) == MOST_ROWS
        await record.add(most[:1])
        with pytest.raises(InvalidInput, match="more than 10000 rows"):
            await record.rows(UsageQuery(group_by=("model",)))


class TestOldRows:
    async def test_are_forgotten(self, record):
        await record.add([entry(NOON - days * DAY) for days in range(10)])
        assert await forget_once(record, NOON - 6.5 * DAY) == 3
        (row,) = await record.rows(UsageQuery())
        assert row.calls == 7

    async def test_are_forgotten_in_small_steps(self, record):
        await record.add([entry(NOON)] * 1200)
        assert await record.forget(NOON + 1, 500) == 500
        assert await forget_once(record, NOON + 1) == 700
        assert await record.rows(UsageQuery()) == []
