"""What every store promises of runs that are deleted: whole trees, and nothing of them is left."""

import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest

from servers.agents.adapters.run_codec import run_body
from servers.agents.adapters.sqlite.schema import MIGRATIONS
from servers.agents.ports import Kin
from servers.domain.runs import RunFilter, RunSelection, RunState
from servers.kernel.errors import NotFound
from tests.contract import run_fixture
from tests.contract.run_fixture import STARTED, WAITING, a_run, ended, said, the_end

ALL = RunSelection(all=True)
HOOK = {"webhook": "https://example.test/told"}


@pytest.fixture
def store(stores):
    return stores.runs


@pytest.fixture
def trees(stores):
    return stores.trees


def part(id: str, root: str = "r1", **other):
    return a_run(id, **{"parent": root, "root": root, "depth": 1} | other)


async def left(store, tenant="acme") -> list[str]:
    return sorted(run.id for run in (await store.list(tenant, RunFilter(), 1000)).runs)


class TestRoots:
    @pytest.fixture(autouse=True)
    async def runs(self, store):
        for run in (
            ended(a_run("r1", principal="ada", session="s", agent="helper"), at=10.0),
            ended(a_run("r2", principal="ada", session="t", agent="writer"), at=20.0),
            a_run("r3", principal="bob", session="s", agent="helper"),
            ended(a_run("r4", tenant="other", principal="ada", session="s", agent="helper")),
            ended(part("p1", principal="ada", session="s/part", agent="worker"), at=10.0),
        ):
            await store.create(run)

    @pytest.mark.parametrize(
        ("which", "expected"),
        [
            (ALL, ["r1", "r2", "r3"]),
            (RunSelection("ada"), ["r1", "r2"]),
            (RunSelection("ada", "s"), ["r1"]),
            (RunSelection(session="s"), ["r1", "r3"]),
            (RunSelection(agent="writer"), ["r2"]),
            (RunSelection(ended_before=15.0), ["r1"]),
            (RunSelection(ended_before=10.0), []),
            (RunSelection("ada", agent="helper", ended_before=11.0), ["r1"]),
            (RunSelection("nobody"), []),
        ],
    )
    async def test_are_those_that_fit_all_that_is_said(self, trees, which, expected):
        assert list(await trees.roots("acme", which, "", 10)) == expected

    @pytest.mark.parametrize(
        "which", [RunSelection(session="s/part"), RunSelection(agent="worker")]
    )
    async def test_are_found_by_the_first_run_alone(self, trees, which):
        assert list(await trees.roots("acme", which, "", 10)) == []

    async def test_come_in_pages(self, trees):
        assert list(await trees.roots("acme", ALL, "", 2)) == ["r1", "r2"]
        assert list(await trees.roots("acme", ALL, "r2", 2)) == ["r3"]

    async def test_of_a_tree_that_has_lost_its_first_run_are_found_by_any(self, store, trees):
        await store.create(ended(part("p9", "gone", principal="eve")))
        assert list(await trees.roots("acme", RunSelection("eve"), "", 10)) == ["gone"]

    async def test_know_all_their_runs(self, trees):
        kin = await trees.kin("acme", ["r1", "r3", "r4"])
        expected = {Kin("r1", "r1", True), Kin("p1", "r1", True), Kin("r3", "r3", False)}
        assert set(kin) == expected


class TestDelete:
    async def test_takes_the_run_its_log_and_those_of_its_sub_agents(self, store, trees):
        for run in (ended(a_run()), ended(part("p1")), ended(part("p2"))):
            await store.create(run, events=[replace(STARTED, run_id=run.id), the_end(2, run)])
        assert await trees.delete("acme", ["r1"]) == 3
        assert await left(store) == []
        for name in ("r1", "p1", "p2"):
            assert await store.events(name) == []
            assert await store.last_sequence(name) == 0
            with pytest.raises(NotFound):
                await store.get("acme", name)

    async def test_leaves_others(self, store, trees):
        for run in (a_run("r1"), a_run("r2"), a_run("r3", tenant="other")):
            await store.create(ended(run), events=[replace(STARTED, run_id=run.id)])
        assert await trees.delete("acme", ["r1", "r3"]) == 1
        assert await left(store) == ["r2"]
        assert await left(store, "other") == ["r3"]
        assert len(await store.events("r3")) == 1

    @pytest.mark.parametrize("state", [RunState.QUEUED, RunState.RUNNING, *WAITING])
    async def test_leaves_a_tree_whole_of_which_a_run_has_not_ended(self, store, trees, state):
        await store.create(ended(a_run("r1")))
        await store.create(part("p1", state=state))
        await store.create(ended(a_run("r2")))
        assert await trees.delete("acme", ["r1", "r2"]) == 1
        assert await left(store) == ["p1", "r1"]

    async def test_again_does_nothing(self, store, trees):
        await store.create(ended(a_run()))
        await trees.delete("acme", ["r1"])
        assert await trees.delete("acme", ["r1"]) == 0

    async def test_lets_the_request_id_be_used_again(self, store, trees):
        await store.create(ended(a_run(request_id="q")), "hash")
        await trees.delete("acme", ["r1"])
        assert (await store.create(a_run("r2", request_id="q"), "other"))[1]

    async def test_takes_an_end_that_a_webhook_was_to_be_told(self, stores, store, trees):
        await store.create(ended(a_run(**HOOK)))
        await trees.delete("acme", ["r1"])
        assert await stores.outbox.undelivered(10, 60.0) == []

    async def test_is_heard_by_who_writes_to_the_log_all_the_same(self, store, trees):
        await store.create(ended(a_run()))
        await trees.delete("acme", ["r1"])
        with pytest.raises(Exception, match="r1"):
            await store.append("r1", [STARTED])
        assert await store.events("r1") == []

    async def test_leaves_nothing_for_who_makes_logs_smaller(self, stores, store, trees):
        await store.create(ended(a_run()), events=said(1, 9))
        await trees.delete("acme", ["r1"])
        assert await stores.retention.compact(100.0, 10) == 0


class TestPrincipals:
    async def test_have_their_runs_in_a_list(self, store):
        for number, name in enumerate(("ada", "bob", "ada", "")):
            await store.create(a_run(f"r{number}", principal=name, created_at=float(number)))
        page = await store.list("acme", RunFilter(principal="ada"), 1)
        assert [run.id for run in page.runs] == ["r2"]
        more = await store.list("acme", RunFilter(principal="ada"), 1, page.next_page_token)
        assert ([run.id for run in more.runs], more.next_page_token) == (["r0"], "")

    async def test_are_known_of_runs_in_postgresql_that_an_older_process_has_written(
        self, store, trees, request, opening
    ):
        if request.node.callspec.params["opening"] != "postgres":
            pytest.skip("its rows are brought to the new form at the start")
        for number in range(3):
            await store.create(ended(a_run(f"r{number}", principal="ada")))
        await store._postgres.fetch("UPDATE astromesh_run SET principal = NULL")
        found = await store.list("acme", RunFilter(principal="ada"))
        assert len(found.runs) == 3
        await store._postgres.fetch("UPDATE astromesh_run SET principal = NULL")
        assert list(await trees.roots("acme", RunSelection("ada"), "", 10)) == ["r0", "r1", "r2"]


async def test_runs_in_a_file_of_the_version_before_are_found_by_who_asked(tmp_path):
    bodies = {
        "r1": run_body(ended(a_run("r1", principal="ada"))),
        "r2": run_body(ended(a_run("r2"))),
        "r3": b"damaged",
    }
    with closing(sqlite3.connect(tmp_path / "runs.db")) as before:
        before.executescript(";".join(MIGRATIONS[:2]) + ";PRAGMA user_version = 2")
        sql = (
            "INSERT INTO run(run_id, tenant, agent, session, state, created_at, request_id, "
            "request_hash, body, root, ended_at) "
            "VALUES (?, 'acme', 'helper', 's', 'completed', 1, '', '', ?, ?, 1)"
        )
        before.executemany(sql, [(name, body, name) for name, body in bodies.items()])
        before.commit()
    async with run_fixture.sqlite(tmp_path) as stores:
        page = await stores.runs.list("acme", RunFilter(principal="ada"))
        assert [run.id for run in page.runs] == ["r1"]
        assert list(await stores.trees.roots("acme", RunSelection("ada"), "", 10)) == ["r1"]
        assert await stores.trees.delete("acme", ["r1", "r3"]) == 2


async def test_files_have_nothing_of_what_was_deleted_and_all_of_the_rest(tmp_path):
    async with run_fixture.sqlite(tmp_path) as stores:
        for number in range(60):
            run = ended(a_run(f"r{number:02}", context={"secret": f"hidden {number:02}"}))
            await stores.runs.create(run, events=said(1, 40, run.id))
        gone = [f"r{number:02}" for number in range(0, 60, 2)]
        assert await stores.trees.delete("acme", gone) == 30
        await stores.trees.wipe()
        data = b"".join(path.read_bytes() for path in tmp_path.glob("runs.db*"))
        there = [n for n in range(60) if f"hidden {n:02}".encode() in data]
        assert there == list(range(1, 60, 2))
        with closing(sqlite3.connect(tmp_path / "runs.db")) as other:
            assert other.execute("PRAGMA integrity_check").fetchone() == ("ok",)
