"""A disk that is full: a small one of its own, which only the mesh and the test see; or one of
which PostgreSQL says so."""

import asyncio
import contextlib
import errno
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers.domain.runs import RunRequest, RunState
from servers.kernel.errors import Exhausted
from tests.faults.replicas import ME, Replica, fleet, followed
from tests.faults.thinking import mails, thinking
from tests.patience import PATIENCE
from tests.running import agent

TOOLS = [{"name": "send_mail", "function": "tests.faults.effects:send_mail"}]
SIZE = "3m"


def on_a_small_disk(folder: Path) -> tuple[str, ...]:
    """Starts a program that finds an empty file system of some MiB in the place of `folder`."""
    mount = f'mount -t tmpfs -o size={SIZE} none "{folder}" && exec "$@"'
    return "unshare", "--map-root-user", "--mount", "sh", "-c", mount, "sh"


@contextmanager
def full(replica: Replica):
    """Nothing can be written to the replica's disk."""
    state = replica.folder / replica.name
    filler = Path(f"/proc/{replica.process.pid}/root{state}/filler")
    with filler.open("wb", buffering=0) as file:
        with contextlib.suppress(OSError):
            while file.write(b"." * 4096):
                pass
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            file.write(b".")
    try:
        yield
    finally:
        filler.unlink()


@contextmanager
def no_room(postgres, dsn):
    """PostgreSQL says of every row that its disk is full. That it is true is not tested here."""
    schema = dsn.rpartition("search_path=")[2]
    full = f"{schema}.no_room()"
    says = (
        f"CREATE FUNCTION {full} RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE disk_full; END'"
    )
    postgres.psql(says)
    for table in ("astromesh_run", "astromesh_run_event"):
        when = f"BEFORE INSERT OR UPDATE ON {schema}.{table}"
        postgres.psql(f"CREATE TRIGGER no_room {when} EXECUTE FUNCTION {full}")
    try:
        yield
    finally:
        postgres.psql(f"DROP FUNCTION {full} CASCADE")


async def until(condition) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110  # another process does it
            await asyncio.sleep(0.02)


async def test_that_is_full_refuses_new_runs_and_loses_none_that_was_accepted(tmp_path):
    (tmp_path / "state").mkdir()
    (tmp_path / "hold").touch()
    async with thinking(mails(2)) as model:
        manifest = agent("helper", model.endpoint, tools=TOOLS)
        async with fleet(tmp_path, [manifest]) as there:
            replica = Replica(tmp_path, within=on_a_small_disk(tmp_path / "state"))
            there.replicas.append(replica)
            await replica.start()
            async with replica.dialled() as agents:
                run = await agents.create_run(ME, RunRequest("helper", "ada"))
                await until(there.effects)
                with full(replica):
                    (tmp_path / "hold").unlink()  # the tool gives its result, which can't be kept
                    await asyncio.sleep(1)
                    with pytest.raises(Exhausted) as refused:
                        await agents.create_run(ME, RunRequest("helper", "bob"))
                    assert refused.value.reason == "DISK_FULL"
                    assert not (await agents.get_run(ME, run.id)).state.terminal
                    assert set(there.effects()) == {"ada-0"}
                ended = await followed([replica], run.id, [])
                after = await agents.run(ME, RunRequest("helper", "eve"))
            effects = there.effects()
    assert (ended.state, after.state) == (RunState.COMPLETED, RunState.COMPLETED)
    assert effects == {"ada-0": 1, "ada-1": 1, "eve-0": 1, "eve-1": 1}


async def test_that_postgresql_calls_full_does_so_too(tmp_path, postgres):
    dsn = postgres.schema()
    (tmp_path / "hold").touch()
    async with (
        thinking(mails(2)) as model,
        fleet(tmp_path, [agent("helper", model.endpoint, tools=TOOLS)], dsn) as there,
    ):
        replica = await there.add()
        async with replica.dialled() as agents:
            run = await agents.create_run(ME, RunRequest("helper", "ada"))
            await until(there.effects)
            with no_room(postgres, dsn):
                (tmp_path / "hold").unlink()
                await until(lambda: "end of the run not written" in replica.log())
                with pytest.raises(Exhausted) as refused:
                    await agents.create_run(ME, RunRequest("helper", "bob"))
                assert refused.value.reason == "DISK_FULL"
                assert not (await agents.get_run(ME, run.id)).state.terminal
                assert set(there.effects()) == {"ada-0"}
            ended = await followed([replica], run.id, [])
            after = await agents.run(ME, RunRequest("helper", "eve"))
        effects = there.effects()
    assert (ended.state, after.state) == (RunState.COMPLETED, RunState.COMPLETED)
    assert effects == {"ada-0": 1, "ada-1": 1, "eve-0": 1, "eve-1": 1}
