"""What a mesh was told to forget is in none of its files, and isn't learned after."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import grpc
import httpx
import pytest
import yaml

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.chat import Role, says
from servers.domain.episodes import Episode, EpisodeType, Note
from servers.domain.memory import Details, SessionKey
from servers.domain.runs import RunRequest
from servers.domain.semantic import Erased, MemoryQuery, Reader, Remembered
from servers.kernel.errors import NotReady
from servers.memory.remote import RemoteMemory
from tests.mesh.mesh_process import MeshProcess, mesh_process, services
from tests.patience import PATIENCE
from tests.ports import free_port
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply, Then
from tests.scripted.openai_server import openai_server

ADA = Caller("acme", "ada")
READER = Reader("acme", "helper", "ada", "s1")


def a_secret() -> str:
    return f"the key is under the stone {uuid4().hex}"


def holding(mesh: MeshProcess, text: str) -> list[str]:
    """The files of its state folder that have these bytes."""
    files = [path for path in mesh.state.rglob("*") if path.is_file()]
    return [path.name for path in files if text.encode() in path.read_bytes()]


async def sent(http: httpx.AsyncClient, method: str, path: str, body: dict | None = None) -> dict:
    answer = await http.request(method, path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


class TestFiles:
    async def test_have_nothing_of_what_was_forgotten_over_rest(self, started, http):
        secret, memory = a_secret(), f"/v1/memory/forgetful-{uuid4().hex[:8]}"
        said = {"messages": [{"role": "ROLE_USER", "text": secret}]}
        await sent(http, "POST", f"{memory}/history/s1", said)
        one = await sent(http, "POST", f"{memory}/memories", {"text": f"That {secret}."})
        for number, session in ((2, "s1"), (3, "s2")):
            text = f"{number * 'So '} {secret}!"
            exact = {"text": text, "session": session, "duplicate_threshold": 1}
            await sent(http, "POST", f"{memory}/memories", exact)
        event = {"type": "EPISODE_TYPE_CUSTOM", "text": secret}
        await sent(http, "POST", f"{memory}/episodes", event)
        assert holding(started, secret) != []
        await sent(http, "DELETE", f"{memory}/history/s1")
        await sent(http, "DELETE", f"{memory}/memories/{one['memory']['id']}")
        await sent(http, "POST", f"{memory}/memories:forget", {"session": "s1"})
        await sent(http, "DELETE", f"{memory}/episodes?all=true")
        gone = await sent(http, "POST", f"{memory}/memories:forget", {"all": True})
        assert gone["deleted_memories"] == 1
        assert holding(started, secret) == []

    async def test_have_nothing_of_a_principal_who_was_erased(self, started, channel):
        secret, memory = a_secret(), RemoteMemory(channel)
        key, turns = SessionKey("acme", "helper", "s1"), [says(Role.USER, secret)]
        await memory.append(key, turns, details=Details("ada"))
        for n in range(3):
            said = Remembered(f"{n} {secret}", duplicate_threshold=1)
            await memory.semantic.remember(READER, said)
        note = Note("acme", Episode(EpisodeType.CUSTOM, secret, agent="helper", principal="ada"))
        await memory.episodes.add(note)
        assert {"memory.db-wal", "memories.db-wal"} <= set(holding(started, secret))
        assert await memory.erase("acme", "ada") == Erased(1, 3, 1)
        assert holding(started, secret) == []


class TestAPerson:
    """Who has talked with an agent that remembers, and wants to be forgotten."""

    async def test_is_in_no_file_once_he_was_forgotten_over_rest(
        self, started, http, channel, an_agent
    ):
        secret, name = a_secret(), f"ada-{uuid4().hex[:8]}"
        call = Call("calculator", json.dumps({"expression": "1+1", "why": secret}))
        replies = Reply((), calls=[call]), Reply((f"I know that {secret}.",))
        kept = {"conversational": {}, "episodic": {}, "semantic": {"remember": {"min_tokens": 1}}}
        helper = await an_agent(*replies, tools=[{"name": "calculator"}], memory=kept)
        asks = RunRequest(helper.name, secret, session="s1", request_id=f"the {secret}")
        run = await RemoteAgents(channel).run(Caller("default", name), asks)
        person = f"/v1/principals/{name}"
        assert [r["run_id"] for r in (await sent(http, "GET", f"{person}/runs"))["runs"]] == [
            run.id
        ]
        assert any(file.startswith("runs.db") for file in holding(started, secret))
        purged = await sent(http, "DELETE", f"{person}/runs")
        assert purged == {"deleted_runs": 1, "left_runs": 0}
        erased = await sent(http, "DELETE", f"{person}/memory")
        assert any(f"{person}/runs" in each for each in erased["remains"])
        assert holding(started, secret) == []
        assert (await http.get(f"/v1/runs/{run.id}")).status_code == 404

    async def test_has_one_run_deleted_over_rest_when_it_has_ended(
        self, started, http, channel, an_agent
    ):
        secret = a_secret()
        helper = await an_agent(Reply(("Yes",)), Reply((), then=Then.HANG))
        asks = RunRequest(helper.name, secret)
        agents, ada = RemoteAgents(channel), Caller("default", "ada")
        run = await agents.run(ada, asks)
        assert (await sent(http, "DELETE", f"/v1/runs/{run.id}")) == {}
        assert holding(started, secret) == []
        going = await agents.create_run(ada, asks)
        refused = await http.delete(f"/v1/runs/{going.id}")
        assert refused.status_code == 400
        assert "RUN_NOT_ENDED" in refused.text
        assert (await http.delete(f"/v1/runs/{going.id}?force=true")).status_code == 200
        assert holding(started, secret) == []

    async def test_has_to_be_named(self, http):
        refused = await http.post("/v1/runs:purge", json={})
        assert refused.status_code == 400
        assert "INVALID_REQUEST" in refused.text
        would = {"session_id": uuid4().hex, "validate_only": True}
        assert await sent(http, "POST", "/v1/runs:purge", would) == {
            "deleted_runs": 0,
            "left_runs": 0,
        }


async def test_what_was_said_before_is_refused_over_rest_and_after_is_not(http):
    memory = f"/v1/memory/refusing-{uuid4().hex[:8]}/memories"
    before = datetime.fromtimestamp(time.time(), UTC).isoformat()
    await sent(http, "POST", f"{memory}:forget", {"all": True})
    late = await http.post(memory, json={"text": "Ada sails.", "said_time": before})
    assert late.status_code == 400
    assert "MEMORIES_FORGOTTEN" in late.text
    kept = await sent(http, "POST", memory, {"text": "Ada sails.", "ttl_seconds": 3600})
    assert kept["memory"]["expire_time"] > kept["memory"]["update_time"]
    old = await http.post(memory, json={"text": "Ada sails.", "said_time": "2020-01-01T00:00:00Z"})
    assert old.status_code == 400
    assert "said_time" in old.text
    over = {"text": "Bob walks.", "ttl_seconds": 0.001}
    await sent(http, "POST", memory, over)
    assert [each["text"] for each in (await sent(http, "GET", memory))["memories"]] == [
        "Ada sails."
    ]


@asynccontextmanager
async def apart(folder, model, extractor):
    """Memory in one process, agents in another; `helper` has a model find what to remember."""
    one, two = free_port(), free_port()
    learner = agent("helper", model, memory={"semantic": {"remember": {"policy": "extract"}}})
    small = {"provider": "openai_compat", "endpoint": extractor, "model": "small"}
    learner["spec"]["model"] = {
        "default": {"candidates": [learner["spec"]["model"]["primary"]]},
        "roles": {"extractor": {"candidates": [small]}},
    }
    config = write_agents(folder, learner)
    places = {"memory": f"127.0.0.1:{one}", "agents": f"127.0.0.1:{two}"}
    runtime = {
        "apiVersion": "astromesh/v1",
        "kind": "RuntimeConfig",
        "metadata": {"name": "r"},
        "spec": {"services": places | {"router": f"127.0.0.1:{two}"}},
    }
    (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))
    alone = services(folder, "memory", port=one)
    rest = services(folder, "agents", "router", "tools", port=two)
    # Memory first: agents that found nobody there would learn their lesson 5 s later, once more.
    with mesh_process(folder, alone), mesh_process(folder, rest) as other:
        async with (
            grpc.aio.insecure_channel(places["agents"]) as to_agents,
            grpc.aio.insecure_channel(places["memory"]) as to_memory,
        ):
            yield RemoteAgents(to_agents), RemoteMemory(to_memory), other


async def test_what_a_run_left_to_be_learned_is_not_learned_after_in_another_process(tmp_path):
    learned = json.dumps({"facts": ["Ada owns a sailing boat."]})
    go_on = asyncio.Event()
    async with (
        openai_server(Reply(("The boat is Ada's.",))) as model,
        openai_server(Reply((learned,), hold=go_on)) as extractor,
        apart(tmp_path, model.endpoint, extractor.endpoint) as (agents, memory, process),
        asyncio.timeout(PATIENCE),
    ):
        await agents.run(ADA, RunRequest("helper", "Whose is the boat?", session="s1"))
        while not extractor.requests:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        await memory.erase("acme", "ada")
        go_on.set()
        while b"The boat is" in waiting(process):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        assert len(extractor.requests) == 1
        assert (await memory.semantic.memories(READER, MemoryQuery())).memories == ()
        with pytest.raises(NotReady) as caught:
            await memory.semantic.remember(READER, Remembered("x", said_at=time.time() - 3600))
        assert caught.value.reason == "PRINCIPAL_ERASED"


def waiting(process: MeshProcess) -> bytes:
    return b"".join(path.read_bytes() for path in process.state.glob("lessons.db*"))
