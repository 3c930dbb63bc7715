"""An approval that is given where the run has never been."""

import asyncio
from contextlib import aclosing, contextmanager

import grpc
import httpx
import pytest
import yaml

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.run_events import Completed
from servers.domain.runs import Decision, RunState, Verdict
from tests.faults.thinking import mails, thinking
from tests.mesh.mesh_process import KILL, command, gone, mesh_process
from tests.patience import PATIENCE
from tests.running import agent, write_agents

ME = Caller()
TOOLS = [
    {
        "name": "send_mail",
        "function": "tests.faults.effects:send_mail",
        "requires_approval": True,
    }
]


@contextmanager
def replica(folder, name):
    """The whole mesh, with Envoy before it, and a state folder of its own."""
    args = command(folder, "--state", str(folder / name))
    with mesh_process(folder, args, {"EFFECTS_DIR": str(folder)}) as mesh:
        yield mesh


async def read(address, run_id, after, events):
    """As a client of its own does, to the end of the run."""
    async with (
        grpc.aio.insecure_channel(address) as channel,
        aclosing(RemoteAgents(channel).events(ME, run_id, after)) as source,
    ):
        async for event in source:
            events.append(event)


@pytest.mark.envoy
async def test_goes_on_with_a_run_whose_process_is_dead(tmp_path, postgres):
    settings = {"backend": "postgres", "dsn": postgres.schema(), "lease_seconds": 1}
    runtime = {
        "apiVersion": "astromesh/v1",
        "kind": "RuntimeConfig",
        "metadata": {"name": "runtime"},
        "spec": {"runs": settings},
    }
    async with thinking(mails(1, ("It ", "is ", "sent"))) as model:
        config = write_agents(tmp_path, agent("helper", model.endpoint, tools=TOOLS))
        (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))
        with replica(tmp_path, "first") as first, replica(tmp_path, "second") as second:
            async with httpx.AsyncClient(base_url=first.url, timeout=PATIENCE) as rest:
                started = await rest.post("/v1/agents/helper:run", json={"query": "ada"})
                run = started.json()
                assert run["state"] == "RUN_STATE_WAITING_APPROVAL"
                told = await rest.get("/v1/runs", params={"states": "RUN_STATE_WAITING_APPROVAL"})
                (ask,) = told.json()["runs"][0]["waiting"]
                assert ask["arguments"] == '{"to": "ada-0"}'
            family = first.family()
            for process in family:
                process.send_signal(KILL)
            assert gone(family)

            events = []
            reading = asyncio.create_task(read(second.address, run["run_id"], 2, events))
            async with grpc.aio.insecure_channel(second.address) as channel:
                agents = RemoteAgents(channel)
                await agents.resume(ME, run["run_id"], Decision(ask["call_id"], Verdict.APPROVE))
            async with asyncio.timeout(PATIENCE):
                await reading
    ended = events[-1].payload
    assert isinstance(ended, Completed)
    assert (ended.run.state, ended.run.answer) == (RunState.COMPLETED, "It is sent")
    assert events[0].sequence == 3
    assert (tmp_path / "sent").read_text().split() == ["ada-0"]
