"""What is particular about runs in a SQLite file: its history, and its one owner."""

from math import inf

import pytest

from servers.agents.adapters.opening import open_stores
from servers.agents.adapters.run_codec import row_of, run_body
from servers.agents.adapters.sqlite.schema import MIGRATIONS
from servers.domain.runs import RunFilter, RunState
from servers.kernel.sqlite import open_database
from tests.contract.run_fixture import (
    STARTED,
    a_run,
    ended,
    ids,
    new_id,
    said,
    timed_run,
    waiting_run,
)

DAY = 86400.0


class TestAFileOfTheFirstSchema:
    """Written by the program as it was before runs could wait."""

    @pytest.fixture
    async def file(self, tmp_path):
        runs = [a_run("r1"), ended(a_run("r2", session="t"), at=7.0), ended(a_run("r3"))]
        put = "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        log = row_of([STARTED, *said(2, 9)])

        def write(connection):
            for run in runs:
                where = (run.id, run.tenant, run.agent, run.session, run.state.value)
                connection.execute(put, (*where, run.created_at, "", "", run_body(run)))
            connection.execute(
                "INSERT INTO run_event VALUES ('r1', ?, ?, ?, ?)",
                (log.first, log.last, log.time, log.body),
            )

        async with open_database(tmp_path / "runs.db", MIGRATIONS[:1]) as database:
            await database.write(write)
        return tmp_path

    @pytest.fixture
    async def stores(self, file):
        async with open_stores(file, lambda: 100.0, new_id) as stores:
            yield stores

    async def test_keeps_its_runs(self, stores):
        assert await stores.runs.get("acme", "r2") == ended(a_run("r2", session="t"), at=7.0)

    async def test_goes_on_with_what_had_not_ended(self, stores):
        assert await stores.leases.claim((), 10) == [(a_run("r1"), [STARTED, *said(2, 9)])]

    async def test_knows_which_runs_stand_in_line(self, stores):
        assert await stores.runs.line("acme", "helper", "s") == ["r1"]

    async def test_knows_each_run_as_the_root_of_its_tree(self, stores):
        page = await stores.runs.list("acme", RunFilter(root="r2"))
        assert [run.id for run in page.runs] == ["r2"]

    async def test_knows_when_runs_ended(self, stores):
        assert await stores.retention.forget(8.0, 10) == 1


class TestTheOneOwner:
    @pytest.fixture
    async def stores(self, tmp_path):
        async with open_stores(tmp_path, lambda: 100.0, new_id) as stores:
            yield stores

    async def test_has_its_runs_for_ever(self, stores):
        assert (stores.leases.lease, stores.leases.shared) == (inf, False)

    async def test_goes_on_after_kill_9_without_any_wait(self, tmp_path):
        async with open_stores(tmp_path, lambda: 100.0, new_id) as stores:
            await stores.runs.create(a_run("r1"))
            await stores.runs.create(waiting_run("r2"))
            await stores.leases.take("acme", "r2")
        async with open_stores(tmp_path, lambda: 100.0, new_id) as stores:
            assert ids(await stores.leases.claim((), 10)) == ["r1"]
            assert ids([await stores.leases.take("acme", "r2")]) == ["r2"]

    async def test_goes_by_its_own_clock(self, stores):
        await stores.runs.create(timed_run(100.0, "r1"))
        await stores.runs.create(timed_run(100.1, "r2"))
        assert ids(await stores.leases.claim((), 10)) == ["r1"]


class TestAnUnusedDeclaration:
    async def test_is_forgotten_after_a_day(self, tmp_path):
        times = [1000.0]
        async with open_stores(tmp_path, lambda: times[-1], new_id) as stores:
            await stores.versions.keep("abc", {"kind": "Agent"})
            await stores.runs.create(ended(a_run(agent_digest="abc"), RunState.FAILED))
            times.append(1000.0 + DAY - 1)
            await stores.retention.forget(times[-1], 10)
            assert await stores.versions.kept("abc") == {"kind": "Agent"}
            times.append(1000.0 + DAY + 1)
            await stores.retention.forget(times[-1], 10)
            assert await stores.versions.kept("abc") is None

    async def test_lasts_a_day_longer_when_it_is_asked_for_again(self, tmp_path):
        times = [1000.0]
        async with open_stores(tmp_path, lambda: times[-1], new_id) as stores:
            await stores.versions.keep("abc", {"kind": "Agent"})
            times.append(1000.0 + DAY - 1)
            await stores.versions.keep("abc", {"kind": "Agent"})
            times.append(1000.0 + DAY + 1)
            await stores.retention.forget(times[-1], 10)
            assert await stores.versions.kept("abc") == {"kind": "Agent"}
