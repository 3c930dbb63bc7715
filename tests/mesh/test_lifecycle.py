"""How a mesh ends, what of it stays, and how it takes over changed files."""

import asyncio
import signal
import time

import grpc
import httpx
import pytest
import yaml
from astromesh.agents.v1 import agent_service_pb2 as pb
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc

from tests.mesh.mesh_process import gone, mesh_process
from tests.patience import PATIENCE
from tests.running import agent, write_agents
from tests.scripted.http_server import Reply, Then
from tests.scripted.openai_server import openai_server

HELLO = {"query": "hello?"}
RUN = "/v1/agents/helper:run"
LOCAL = {"primary": {"provider": "local", "parameters": {"max_tokens": 8}}}


def runtime(folder, **limits):
    """Write runtime.yaml with these limits."""
    manifest = {
        "apiVersion": "astromesh/v1",
        "kind": "RuntimeConfig",
        "metadata": {"name": "test"},
        "spec": {"limits": limits},
    }
    (folder / "config" / "runtime.yaml").write_text(yaml.safe_dump(manifest))


def rest(mesh):
    return httpx.AsyncClient(base_url=mesh.url, timeout=PATIENCE, trust_env=False)


async def until(condition):
    """Wait for what another process does."""
    async with asyncio.timeout(PATIENCE):
        while not await condition():  # noqa: ASYNC110  # it sets no event of ours
            await asyncio.sleep(0.02)


class TestAMeshThatIsToldToStop:
    async def test_lets_runs_at_work_end_and_refuses_new_ones(self, tmp_path):
        go = asyncio.Event()
        async with openai_server(Reply(("done",), hold=go)) as model:
            write_agents(tmp_path, agent("helper", model.endpoint))
            runtime(tmp_path, drain_seconds=PATIENCE)
            with mesh_process(tmp_path) as mesh:
                async with rest(mesh) as http, grpc.aio.insecure_channel(mesh.address) as channel:
                    stub = agents_grpc.AgentServiceStub(channel)
                    request = pb.RunAgentRequest(agent="helper", query="hello?")
                    over_rest = asyncio.create_task(http.post(RUN, json=HELLO))
                    over_grpc = asyncio.create_task(_ask(stub, request))
                    await until(lambda: _asked(model, 2))
                    mesh.signal(signal.SIGTERM)
                    await until(lambda: _refuses(stub))
                    refused = (await http.post(RUN, json=HELLO)).json()
                    go.set()
                    answer, run = await over_rest, await over_grpc
                assert await mesh.ended() == 0
        assert (answer.json()["answer"], run.answer) == ("done", "done")
        assert (refused["code"], refused["details"][0]["reason"]) == (14, "SHUTTING_DOWN")
        assert len(model.requests) == 2

    async def test_leaves_a_run_that_takes_longer_to_the_next_start(
        self, tmp_path, record_testsuite_property
    ):
        async with openai_server(Reply((), then=Then.HANG), Reply(("at last",))) as model:
            write_agents(tmp_path, agent("helper", model.endpoint))
            runtime(tmp_path, drain_seconds=0.1)
            with mesh_process(tmp_path) as mesh:
                async with rest(mesh) as http:
                    waiting = asyncio.create_task(http.post(RUN, json=HELLO))
                    await until(lambda: _asked(model, 1))
                    mesh.signal(signal.SIGTERM)
                    told = (await waiting).json()["details"][0]
                assert await mesh.ended() == 0
            began = time.monotonic()
            with mesh_process(tmp_path) as mesh:
                record_testsuite_property("second_start_seconds", time.monotonic() - began)
                async with rest(mesh) as http:
                    path = f"/v1/runs/{told['metadata']['run_id']}"
                    events = (await http.get(f"{path}/events")).text.splitlines()
                    run = (await http.get(path)).json()
        assert told["reason"] == "MESH_STOPPED"
        assert '"completed"' in events[-1]
        assert (run["state"], run["answer"], run["attempt"]) == (
            "RUN_STATE_COMPLETED",
            "at last",
            2,
        )


@pytest.mark.local_model
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_envoy_and_the_local_model_end_with_their_mesh(tmp_path, number):
    write_agents(tmp_path, agent("helper", "", model=LOCAL))
    with mesh_process(tmp_path) as mesh:
        async with rest(mesh) as http:
            answer = await http.post(RUN, json=HELLO)
        family = mesh.family()
        mesh.signal(number)
        await mesh.ended()
        assert await asyncio.to_thread(gone, family)
    assert answer.json()["state"] == "RUN_STATE_COMPLETED"
    assert len(family) >= 3


class TestAFileOfAnAgent:
    """In a mesh that runs already."""

    @pytest.fixture
    async def world(self, tmp_path):
        (tmp_path / "config" / "agents").mkdir(parents=True)
        async with openai_server() as model:
            with mesh_process(tmp_path) as mesh:
                async with rest(mesh) as http:
                    yield tmp_path, model, http

    async def test_is_followed_through_its_life(self, world):
        folder, model, http = world
        path = folder / "config" / "agents" / "helper.agent.yaml"

        async def status():
            answer = await http.get("/v1/agents/helper")
            return answer.json()["status"] if answer.status_code == 200 else None

        async def version():
            answer = await http.post(RUN, json=HELLO)
            return answer.json()["agent_version"] if answer.status_code == 200 else None

        def write(version):
            changed = agent("helper", model.endpoint)
            changed["metadata"]["version"] = version
            write_agents(folder, changed)

        assert await version() is None
        write("1.0.0")  # added
        await until(lambda: _is(version, "1.0.0"))
        write("2.0.0")  # changed
        await until(lambda: _is(version, "2.0.0"))
        path.write_text("kind: [")  # broken: the last good one stays
        await until(lambda: _says(status, "helper.agent.yaml:"))
        assert (await status())["ready"]
        assert await version() == "2.0.0"
        write("3.0.0")  # mended
        await until(lambda: _is(version, "3.0.0"))
        assert (await status())["reason"] == ""
        path.unlink()  # removed
        await until(lambda: _is(status, None))
        assert await version() is None


async def _is(asked, expected):
    return await asked() == expected


async def _says(status, part):
    return part in (await status())["reason"]


async def _asked(model, times):
    return len(model.requests) == times


async def _ask(stub, request):
    return await stub.RunAgent(request)


async def _refuses(stub):
    """Not a run that it could still begin: until it stops it says that there is no such agent."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.RunAgent(pb.RunAgentRequest(agent="nobody", query="hello?"))
    return refused.value.code() is grpc.StatusCode.UNAVAILABLE
