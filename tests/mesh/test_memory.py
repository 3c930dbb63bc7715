"""A conversation goes on after the mesh was killed, wherever it is kept."""

import signal
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
import yaml

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.runs import RunRequest, RunState
from tests.mesh.mesh_process import command, mesh_process, services
from tests.ports import free_port
from tests.redis_server import redis_server
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

ME = Caller("acme", "ada")


def write_config(folder: Path, agents: list[dict], **spec) -> None:
    runtime = {
        "apiVersion": "astromesh/v1",
        "kind": "RuntimeConfig",
        "metadata": {"name": "r"},
        "spec": spec,
    }
    (write_agents(folder, *agents) / "runtime.yaml").write_text(yaml.safe_dump(runtime))


@asynccontextmanager
async def agents_at(address: str):
    async with grpc.aio.insecure_channel(address) as channel:
        yield RemoteAgents(channel)


async def asked(address: str, agent: str, query: str) -> None:
    async with agents_at(address) as agents:
        run = await agents.run(ME, RunRequest(agent, query, session="s"))
        assert run.state is RunState.COMPLETED, run.failure


def shown(request) -> list[str]:
    return [m["content"] for m in request.body["messages"] if m["role"] != "system"]


BACKENDS = ("sqlite", "redis", "archive")
STRATEGIES = ("sliding_window", "token_budget", "summary")
KEPT = {
    f"{backend}-{strategy.replace('_', '-')}": {"backend": backend, "strategy": strategy}
    for backend in BACKENDS
    for strategy in STRATEGIES
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def second_prompts(tmp_path_factory, postgres):
    """What each agent's model was shown by a mesh whose first life ended after one question."""
    folder = tmp_path_factory.mktemp("memory")
    async with openai_server(Reply(("Hello",))) as model, redis_server(folder) as redis:
        agents = [
            agent(name, model.endpoint, memory={"conversational": kept})
            for name, kept in KEPT.items()
        ]
        backends = {"redis": {"url": redis.url}, "archive": {"url": postgres.schema()}}
        write_config(folder, agents, memory={"backends": backends})
        for query in ("one", "two"):
            with mesh_process(folder, command(folder, "--no-envoy")) as mesh:
                for name in KEPT:
                    await asked(mesh.address, name, f"{query}, {name}?")
                mesh.signal(signal.SIGKILL)
                await mesh.ended()
                assert "not kept in memory" not in mesh.log(), mesh.log()
        prompts = [shown(request) for request in model.requests]
        yield {name: each for name in KEPT for each in prompts if each[-1] == f"two, {name}?"}


@pytest.mark.parametrize("name", KEPT)
def test_a_conversation_goes_on_after_the_mesh_was_killed(second_prompts, name):
    assert second_prompts[name] == [f"one, {name}?", "Hello", f"two, {name}?"]


@pytest.fixture
async def redis(tmp_path):
    async with redis_server(tmp_path) as server:
        yield server


async def test_the_memory_of_another_process_knows_the_addresses_of_files(tmp_path, redis):
    one, two = free_port(), free_port()
    async with openai_server(Reply(("Hello",))) as model:
        kept = {"backend": "redis", "connection": {"url": redis.url}}
        places = {"memory": f"127.0.0.1:{one}", "agents": f"127.0.0.1:{two}"}
        helper = agent("helper", model.endpoint, memory={"conversational": kept})
        write_config(tmp_path, [helper], services=places)
        apart = services(tmp_path, "memory", port=one)
        rest = services(tmp_path, "agents", "router", "tools", port=two)
        with mesh_process(tmp_path, apart), mesh_process(tmp_path, rest):
            for query in ("one", "two"):
                await asked(f"127.0.0.1:{two}", "helper", query)
    assert shown(model.requests[1]) == ["one", "Hello", "two"]


class TestOverRest:
    """What people and programs ask of the memory service, through Envoy."""

    async def test_sessions_are_listed_and_handed_out_and_erased(self, http, an_agent, channel):
        helper = await an_agent(Reply(("Hello",)), memory={"conversational": {"max_turns": 4}})
        # Not through Envoy, which lets nobody say who he is.
        ask = RunRequest(helper.name, "hi", session="s")
        await RemoteAgents(channel).run(Caller(principal="ada@example.com"), ask)
        (session,) = (await http.get(f"/v1/memory/{helper.name}/sessions")).json()["sessions"]
        assert (session["session"], session["turns"], session["backend"]) == ("s", 2, "sqlite")
        path = "/v1/principals/ada@example.com/memory"
        records = (await http.get(path)).json()["records"]
        assert [each["turn"]["message"]["text"] for each in records] == ["hi", "Hello"]
        assert (await http.delete(path)).json()["deleted_turns"] == 2
        assert (await http.get(f"/v1/memory/{helper.name}/sessions")).json()["sessions"] == []

    async def test_a_summary_can_be_brought_by_a_client(self, http, an_agent):
        history = f"/v1/memory/{(await an_agent()).name}/history/s"
        messages = [{"role": "ROLE_USER", "text": str(n)} for n in range(10)]
        await http.post(history, json={"messages": messages})
        asked = {"summary_threshold": 8}
        backlog = (await http.get(f"{history}:backlog", params=asked)).json()
        summary = {"summary": "In short.", "until": 8, "etag": backlog["etag"]}
        for taken in (True, False):  # the second one was made from what is no longer so
            answer = (await http.post(f"{history}:updateSummary", json=summary)).json()
            assert answer["updated"] is taken
        build = await http.post(f"{history}:buildContext", json={"strategy": "summary"})
        assert build.json()["summary"] == "In short."

    async def test_an_address_is_no_backend(self, http):
        answer = await http.post("/v1/memory:checkBackend", json={"backend": "redis://10.0.0.1/0"})
        assert answer.status_code == 400


class TestEpisodesOverRest:
    async def test_are_listed_filtered_and_forgotten(self, http, an_agent):
        tools = [{"name": "calculator"}]
        adds = [Call("calculator", f'{{"expression": "{what}"}}') for what in ("2+2", "1/0")]
        replies = [Reply((), calls=adds), Reply(("Four.",)), Reply((), status=400)]
        helper = await an_agent(*replies, tools=tools, memory={"episodic": {}})
        run = (await http.post(f"{helper.path}:run", json={"query": "hi"})).json()
        await http.post(f"{helper.path}:run", json={"query": "again"})
        path = f"/v1/memory/{helper.name}/episodes"

        async def found(**asked) -> list[str]:
            episodes = (await http.get(path, params=asked)).json()["episodes"]
            return [f"{each['type'][13:]} {each['outcome'][16:]}" for each in episodes]

        assert (await found())[:2] == ["RUN FAILED", "RUN SUCCEEDED"]
        assert sorted((await found())[2:]) == ["TOOL_CALL FAILED", "TOOL_CALL SUCCEEDED"]
        assert await found(types="EPISODE_TYPE_RUN") == ["RUN FAILED", "RUN SUCCEEDED"]
        assert await found(outcomes="EPISODE_OUTCOME_FAILED", name="calculator") == [
            "TOOL_CALL FAILED"
        ]
        assert len(await found(run_id=run["run_id"])) == 3
        deleted = await http.delete(path, params={"types": "EPISODE_TYPE_TOOL_CALL"})
        assert deleted.json()["deleted_episodes"] == 2
        assert (await http.delete(path)).status_code == 400
        assert (await http.delete(path, params={"all": True})).json()["deleted_episodes"] == 2

    async def test_are_added_by_clients(self, http, an_agent):
        helper = await an_agent(Reply(("Hello",)), memory={"episodic": {}})
        run = (await http.post(f"{helper.path}:run", json={"query": "hi"})).json()
        path = f"/v1/memory/{helper.name}/episodes"
        said = {"type": "EPISODE_TYPE_FEEDBACK", "run_id": run["run_id"], "rating": 0}
        kept = (await http.post(path, json=said)).json()["episode"]
        assert (kept["rating"], kept["session"]) == (0, run["session_id"])
        assert (await http.get(f"{path}/{kept['id']}")).json()["episode"] == kept
        assert (await http.post(path, json={**said, "rating": 2})).status_code == 400
        assert (await http.get(path, params={"types": 9})).status_code == 400
        assert (await http.delete(f"{path}/{kept['id']}")).status_code == 200
        assert (await http.get(f"{path}/{kept['id']}")).status_code == 404
