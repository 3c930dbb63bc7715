"""A mesh that is killed in the middle of a purge: what is left can be asked for again."""

import time
from contextlib import suppress

import pytest

from servers.domain.caller import Caller
from servers.domain.runs import RunFilter, RunSelection
from servers.kernel.errors import Unavailable
from tests.contract import run_fixture
from tests.contract.run_fixture import a_run, ended, said
from tests.faults.replicas import fleet

ADA = RunSelection("ada")
TREES, HIS = 150, 140  # more than are deleted together


async def seed(folder, dsn: str) -> None:
    opened = run_fixture.postgres(dsn) if dsn else run_fixture.sqlite(folder)
    async with opened as stores:
        for number in range(TREES):
            name = f"r{number:03}"
            whose = {"tenant": "default", "principal": "ada" if number < HIS else "bob"}
            part = {"parent": name, "root": name, "depth": 1}
            for run in (a_run(name, **whose), a_run(f"{name}-part", **part, **whose)):
                run = ended(run, at=time.time())
                await stores.runs.create(run, events=said(1, 2, run.id, node=f"of {name}."))


@pytest.mark.parametrize("runs", ["sqlite", "postgres"])
async def test_a_killed_purge_leaves_whole_trees_and_can_be_asked_for_again(
    tmp_path, request, runs
):
    dsn = request.getfixturevalue("postgres").schema() if runs == "postgres" else ""
    caller = Caller()
    async with fleet(tmp_path, [], dsn) as meshes:
        await seed(tmp_path / "state0", dsn)
        mesh = await meshes.add(doom="deleted:1")
        async with mesh.dialled() as agents:
            with suppress(Unavailable):
                await agents.purge_runs(caller, ADA)
        await mesh.died()
        await mesh.start()
        async with mesh.dialled() as agents:
            left = (await agents.list_runs(caller, RunFilter(), 1000)).runs
            names = {run.id for run in left}
            assert {f"{run.tree}-part" for run in left} <= names
            assert {run.tree for run in left} <= names
            again = await agents.purge_runs(caller, ADA)
            assert (again.runs, again.left) == (len(left) - 2 * (TREES - HIS), 0)
            assert 0 < again.runs < 2 * HIS
            rest = (await agents.list_runs(caller, RunFilter(), 1000)).runs
        assert {run.principal for run in rest} == {"bob"}
        if not dsn:
            files = (tmp_path / "state0").glob("runs.db*")
            data = b"".join(path.read_bytes() for path in files)
            assert [n for n in range(TREES) if f"of r{n:03}.".encode() in data] == [
                *range(HIS, TREES)
            ]
