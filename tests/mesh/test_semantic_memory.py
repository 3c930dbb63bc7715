"""Texts are remembered, and found again by what they mean: the whole way, over REST."""

import asyncio
import json
import signal
from pathlib import Path

import httpx
import yaml

from tests.mesh.mesh_process import mesh_process
from tests.patience import PATIENCE
from tests.running import agent, write_agents
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

ANSWER = "The sailing boat of the company is moored in the harbour of Rotterdam until spring."
STORES = ("faiss", "pgvector", "qdrant", "chroma")


async def asked(http, path: str, body: dict) -> dict:
    answer = await http.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def refused(http, path: str, body: dict) -> str:
    answer = await http.post(path, json=body)
    assert answer.status_code == 400, answer.text
    return answer.text


class TestOverRest:
    async def test_a_text_is_remembered_found_listed_and_forgotten(self, http):
        path = "/v1/memory/rest-notes/memories"
        said = {"text": "Ada drinks green tea.", "metadata": {"topic": "tea"}, "session": "s1"}
        first, again = [await asked(http, path, said) for _ in range(2)]
        await asked(http, path, {"text": "The boat is moored in Rotterdam."})
        outcomes = first["outcome"], again["outcome"]
        assert outcomes == ("REMEMBER_OUTCOME_CREATED", "REMEMBER_OUTCOME_MERGED")
        assert first["memory"]["id"] == again["memory"]["id"]
        assert len(again["memory"]["origins"]) == 2
        found = await asked(http, f"{path}:recall", {"query": "what does she drink?", "top_k": 1})
        (memory,) = found["memories"]
        assert (memory["text"], memory["metadata"]) == (said["text"], {"topic": "tea"})
        assert 0 < memory["similarity"] < 1
        listed = (await http.get(path, params={"page_size": 1})).json()
        assert len(listed["memories"]) == 1
        assert listed["next_page_token"]
        assert (await http.delete(f"{path}/{memory['id']}")).json()["deleted_memories"] == 1
        assert (await http.delete(f"{path}/{memory['id']}")).status_code == 404
        assert (await asked(http, f"{path}:forget", {"all": True}))["deleted_memories"] == 1

    async def test_bad_input_is_named_and_nothing_is_kept(self, http):
        path = "/v1/memory/rest-bad/memories"
        for field, body in (
            ("text", {"text": ""}),
            ("text", {"text": "x" * 8001}),
            ("text", {"text": "a\0b"}),
            ("metadata.k", {"text": "x", "metadata": {"k": {"$ne": 1}}}),
            ("collection", {"text": "x", "collection": "http://10.0.0.1"}),
        ):
            assert f'"{field}' in await refused(http, path, body)
        for field, body in (
            ("query", {"query": " "}),
            ("top_k", {"query": "x", "top_k": 0}),
            ("top_k", {"query": "x", "top_k": 1_000_000_000}),
        ):
            assert f'"{field}' in await refused(http, f"{path}:recall", body)
        assert (await http.get(path)).json()["memories"] == []

    async def test_a_context_has_what_bears_on_the_query(self, http):
        await asked(http, "/v1/memory/rest-both/memories", {"text": "Ada drinks green tea."})
        history = "/v1/memory/rest-both/history/s"
        await asked(http, history, {"messages": [{"role": "ROLE_USER", "text": "hi"}]})
        body = {"query": "What does Ada drink?", "semantic": {"top_k": 3}}
        built = await asked(http, f"{history}:buildContext", body)
        assert [each["text"] for each in built["messages"]] == ["hi"]
        assert [each["text"] for each in built["memories"]] == ["Ada drinks green tea."]
        assert built["failures"] == []
        nowhere = {**body, "semantic": {"collection": "nowhere"}}
        assert "COLLECTION_NOT_FOUND" in await refused(http, f"{history}:buildContext", nowhere)


def write_config(folder: Path, model, extractor, dsn: str) -> None:
    """An agent on each store, and one whose memories a model extracts."""
    where = {"pgvector": {"dsn": dsn}}
    collections = {f"on-{s}": {"backend": s, **where.get(s, {})} for s in STORES}
    remember = {"remember": {"min_tokens": 1}}
    agents = [
        agent(f"helper-{s}", model, memory={"semantic": {"collection": f"on-{s}", **remember}})
        for s in STORES
    ]
    learner = agent("learner", model, memory={"semantic": {"remember": {"policy": "extract"}}})
    small = {"provider": "openai_compat", "endpoint": extractor, "model": "small"}
    default = {"candidates": [learner["spec"]["model"]["primary"]]}
    learner["spec"]["model"] = {"default": default, "roles": {"extractor": {"candidates": [small]}}}
    config = write_agents(folder, *agents, learner)
    runtime = {
        "apiVersion": "astromesh/v1",
        "kind": "RuntimeConfig",
        "metadata": {"name": "r"},
        "spec": {"memory": {"collections": collections}},
    }
    (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))


async def ran(http, name: str, session: str, query: str) -> dict:
    return await asked(http, f"/v1/agents/{name}:run", {"query": query, "session_id": session})


async def memories(http, name: str) -> list[dict]:
    """Once there are any."""
    collection = {"collection": f"on-{name.removeprefix('helper-')}"} if "-" in name else {}
    async with asyncio.timeout(PATIENCE):
        while True:
            answer = await http.get(f"/v1/memory/{name}/memories", params=collection)
            if found := answer.json()["memories"]:
                return found
            await asyncio.sleep(0.05)


async def test_what_runs_leave_outlives_a_kill_in_every_store(tmp_path, postgres):
    """Also what a model had not extracted when the process was killed."""
    fact = json.dumps({"facts": ["Ada owns a sailing boat."]})
    never = asyncio.Event()
    async with (
        openai_server(Reply((ANSWER,))) as model,
        openai_server(Reply((fact,), hold=never)) as extractor,
    ):
        write_config(tmp_path, model.endpoint, extractor.endpoint, postgres.schema())
        with mesh_process(tmp_path) as mesh:
            async with httpx.AsyncClient(
                base_url=mesh.url, timeout=PATIENCE, trust_env=False
            ) as http:
                for store in STORES:
                    await ran(http, f"helper-{store}", "a", "Where is the boat?")
                    (kept,) = await memories(http, f"helper-{store}")
                    assert kept["text"] == ANSWER
                run = await ran(http, "learner", "a", "Whose is the boat?")
                async with asyncio.timeout(PATIENCE):
                    while not extractor.requests:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
            mesh.signal(signal.SIGKILL)
            await mesh.ended()
        never.set()
        with mesh_process(tmp_path) as mesh:
            async with httpx.AsyncClient(
                base_url=mesh.url, timeout=PATIENCE, trust_env=False
            ) as http:
                for store in STORES:
                    await ran(http, f"helper-{store}", "b", "In which harbour is the boat?")
                    shown = model.requests[-1].body["messages"][0]["content"]
                    assert f"- {ANSWER}" in shown
                (learned,) = await memories(http, "learner")
    assert learned["text"] == "Ada owns a sailing boat."
    assert learned["origins"][0]["run_id"] == run["run_id"]
