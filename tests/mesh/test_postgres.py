"""Two meshes on one PostgreSQL: what one began, the other can tell of, cancel and go on with."""

import asyncio
import signal
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import grpc
import pytest
import yaml

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.run_events import Restarted
from servers.domain.runs import RunFilter, RunRequest, RunState
from servers.kernel.errors import NotFound
from tests.mesh.mesh_process import MeshProcess, command, mesh_process
from tests.patience import PATIENCE
from tests.running import agent, write_agents
from tests.scripted.http_server import Reply, Then
from tests.scripted.openai_server import openai_server

ME = Caller()
ASK = RunRequest("helper", "hello?")
LONG = 600  # seconds of a lease that no test waits for
HANGS = Reply(("Once",), then=Then.HANG)


def write_config(folder: Path, endpoint: str, **runs) -> None:
    folder.mkdir(exist_ok=True)
    config = write_agents(folder, agent("helper", endpoint))
    runtime = {
        "apiVersion": "astromesh/v1",
        "kind": "RuntimeConfig",
        "metadata": {"name": "r"},
        "spec": {"runs": {"backend": "postgres", **runs}, "limits": {"drain_seconds": 0.5}},
    }
    (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))


class Replica:
    def __init__(self, mesh: MeshProcess, agents: RemoteAgents) -> None:
        self.mesh, self.agents = mesh, agents

    async def ended(self, run_id: str):
        async with asyncio.timeout(PATIENCE), aclosing(self.agents.events(ME, run_id)) as events:
            return [event async for event in events]


@asynccontextmanager
async def replica(folder: Path):
    with mesh_process(folder, command(folder, "--no-envoy")) as mesh:
        async with grpc.aio.insecure_channel(mesh.address) as channel:
            yield Replica(mesh, RemoteAgents(channel))


@asynccontextmanager
async def both(folder: Path, dsn: str, *replies: Reply, **runs):
    async with openai_server(*replies) as model:
        for name in ("one", "two"):
            write_config(folder / name, model.endpoint, dsn=dsn, **runs)
        async with replica(folder / "one") as one, replica(folder / "two") as two:
            yield one, two, model


async def asked(model, times: int = 1) -> None:
    async with asyncio.timeout(PATIENCE):
        while len(model.requests) < times:  # noqa: ASYNC110  # another process asks
            await asyncio.sleep(0.01)


class TestTwoReplicas:
    async def test_tell_of_each_others_runs(self, tmp_path, postgres):
        async with both(tmp_path, postgres.schema(), Reply(("Hello",))) as (one, two, _):
            run = await one.agents.run(ME, ASK)
            assert await two.agents.get_run(ME, run.id) == run
            assert [r.id for r in (await two.agents.list_runs(ME, RunFilter())).runs] == [run.id]

    async def test_let_a_reader_follow_from_either(self, tmp_path, postgres):
        slow = Reply(("Hello", " there", " you"), pause=0.2)
        async with both(tmp_path, postgres.schema(), slow) as (one, two, _):
            run = await one.agents.create_run(ME, ASK)
            there, here = await asyncio.gather(two.ended(run.id), one.ended(run.id))
        assert [e.sequence for e in there] == [e.sequence for e in here]
        assert there[-1].payload.run.answer == "Hello there you"

    async def test_answer_one_request_once(self, tmp_path, postgres):
        named = RunRequest("helper", "hello?", request_id="r-1")
        async with both(tmp_path, postgres.schema(), Reply(("Hello",))) as (one, two, model):
            first = await one.agents.run(ME, named)
            assert await two.agents.run(ME, named) == first
        assert len(model.requests) == 1

    async def test_run_agents_that_were_declared_at_the_other(self, tmp_path, postgres):
        async with both(tmp_path, postgres.schema(), Reply(("Hello",))) as (one, two, model):
            made = agent("declared", model.endpoint, prompts={"system": "be brief"})
            await one.agents.create(ME, made)
            await two.agents.run(ME, RunRequest("declared", "hello?"))
            made["spec"]["prompts"]["system"] = "be long"
            await one.agents.update(ME, made)
            await two.agents.run(ME, RunRequest("declared", "hello?"))
            await two.agents.delete(ME, "declared")
            with pytest.raises(NotFound):
                await one.agents.run(ME, RunRequest("declared", "hello?"))
        said = [request.body["messages"][0]["content"] for request in model.requests]
        assert said == ["be brief", "be long"]

    async def test_cancel_each_others_runs_at_once(self, tmp_path, postgres):
        leased = both(tmp_path, postgres.schema(), HANGS, lease_seconds=LONG)
        async with leased as (one, two, model):
            run = await one.agents.create_run(ME, ASK)
            await asked(model)
            cancelled = await two.agents.cancel(ME, run.id)
        assert cancelled.state is RunState.CANCELLED

    async def test_go_on_with_the_runs_of_one_that_was_killed(self, tmp_path, postgres):
        replies = (HANGS, Reply(("It", " is", " done")))
        leased = both(tmp_path, postgres.schema(), *replies, lease_seconds=2)
        async with leased as (one, two, model):
            run = await one.agents.create_run(ME, ASK)
            await asked(model)
            one.mesh.signal(signal.SIGKILL)
            events = await two.ended(run.id)
        restart, *_ = [e.payload for e in events if isinstance(e.payload, Restarted)]
        assert restart.attempt == 2
        assert events[-1].payload.run.answer == "It is done"

    async def test_hand_over_when_one_is_stopped(self, tmp_path, postgres):
        replies = (HANGS, Reply(("It", " is", " done")))
        leased = both(tmp_path, postgres.schema(), *replies, lease_seconds=LONG)
        async with leased as (one, two, model):
            run = await one.agents.create_run(ME, ASK)
            await asked(model)
            one.mesh.signal(signal.SIGTERM)
            await one.mesh.ended()
            assert (await two.ended(run.id))[-1].payload.run.answer == "It is done"


@pytest.mark.parametrize("dsn", ["postgresql://me:hunter2@127.0.0.1:9/runs"])
async def test_a_mesh_does_not_start_where_it_cannot_be_reached(tmp_path, dsn):
    write_config(tmp_path, "http://127.0.0.1:9/v1", dsn=dsn)
    process = await asyncio.create_subprocess_exec(
        *command(tmp_path, "--no-envoy"),
        stderr=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
    )
    _, err = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 1
    assert "UNAVAILABLE STORE_UNAVAILABLE: PostgreSQL at 127.0.0.1:9, database 'runs'" in (
        err.decode()
    )
    assert "hunter2" not in err.decode()
