"""Ingestions over REST, across the end of the mesh, and in a RAG service that is elsewhere."""

import asyncio
import json
import signal
import sqlite3
import time
from contextlib import suppress

import grpc
import httpx
import pytest
import yaml

from servers.agents.remote import RemoteAgents
from servers.domain.caller import Caller
from servers.domain.ingestions import IngestionFilter, IngestionState
from servers.domain.rag import Document
from servers.domain.run_events import KnowledgeFound
from servers.domain.runs import RunRequest
from servers.kernel.errors import NotFound
from servers.rag.remote import RemoteRag
from servers.rag.remote_ingestions import RemoteIngestions
from tests.contract.rag_fixture import P, pipeline
from tests.mesh.mesh_process import mesh_process, services
from tests.mesh.program import invoked
from tests.patience import PATIENCE
from tests.running import agent, mesh_of, write_agents
from tests.scripted.held_texts import embeds_with, held_texts
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

ME = Caller()
HOLIDAYS = "Everybody has thirty days of holiday a year."


def declare(folder, *agents, **spec):
    config = write_agents(folder, *agents)
    (config / "rag").mkdir()
    (config / "rag" / f"{P}.rag.yaml").write_text(yaml.safe_dump(pipeline(**spec)))
    return config


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ingestions")
    declare(folder)
    with mesh_process(folder) as mesh:
        yield mesh


@pytest.fixture
async def http(mesh):
    async with httpx.AsyncClient(base_url=mesh.url, timeout=PATIENCE, trust_env=False) as http:
        yield http


async def begun(http, *documents, **more):
    body = {"documents": [{"id": name, "text": text} for name, text in documents], **more}
    return await http.post(f"/v1/rag/{P}/ingestions", json=body)


async def watched(http, name, **headers):
    return (await http.get(f"/v1/{name}:watch", headers=headers)).text


class TestOverRest:
    async def test_it_is_created_watched_and_looked_up(self, http):
        created = await begun(http, ("a.md", HOLIDAYS), ("empty.md", " "))
        name = created.json()["name"]
        lines = [json.loads(line) for line in (await watched(http, name)).splitlines() if line]
        ended = (await http.get(f"/v1/{name}")).json()
        assert [lines[-1]["done"], ended["done"]] == [True, True]
        assert ended["metadata"]["@type"].endswith("astromesh.rag.v1.IngestionMetadata")
        assert (ended["response"]["created"], ended["response"]["failed"]) == (1, 1)
        for told in (lines[-1]["metadata"], ended["metadata"], ended["response"]):
            assert told["failures"][0]["error_reason"] == "DOCUMENT_EMPTY"

    async def test_it_is_watched_as_server_sent_events(self, http):
        name = (await begun(http, ("s.md", HOLIDAYS))).json()["name"]
        assert (await watched(http, name, accept="text/event-stream")).startswith("data: ")

    async def test_it_is_listed_and_forgotten(self, http):
        name = (await begun(http, ("l.md", HOLIDAYS))).json()["name"]
        await watched(http, name)
        query = {"filter": f'done = true AND pipeline = "{P}"'}
        listed = (await http.get("/v1/operations", params=query)).json()["operations"]
        deleted = await http.delete(f"/v1/{name}")
        gone = await http.get(f"/v1/{name}")
        assert name in [each["name"] for each in listed]
        assert (deleted.status_code, gone.status_code) == (200, 404)

    async def test_it_is_listed_page_by_page(self, http):
        names = [(await begun(http, (f"p{n}.md", HOLIDAYS))).json()["name"] for n in range(3)]
        for name in names:
            await watched(http, name)
        query = {"filter": f'pipeline = "{P}"', "page_size": 2}
        first = (await http.get("/v1/operations", params=query)).json()
        query["page_token"] = first["next_page_token"]
        second = (await http.get("/v1/operations", params=query)).json()
        elsewhere = await http.get("/v1/operations", params=query | {"filter": "done = true"})
        listed = [each["name"] for page in (first, second) for each in page["operations"]]
        assert listed[:3] == names[::-1]
        assert elsewhere.status_code == 400  # the token is of another list

    async def test_cancelling_what_ended_changes_nothing(self, http):
        name = (await begun(http, ("c.md", HOLIDAYS))).json()["name"]
        await watched(http, name)
        cancelled = await http.post(f"/v1/{name}:cancel", json={})
        assert cancelled.status_code == 200
        assert "response" in (await http.get(f"/v1/{name}")).json()

    @pytest.mark.parametrize("query", ["filter=colour=red", "page_size=-1", "page_token=x"])
    async def test_a_list_that_can_t_be_is_refused(self, http, query):
        assert (await http.get(f"/v1/operations?{query}")).status_code == 400

    async def test_without_documents_it_is_refused(self, http):
        assert (await begun(http)).status_code == 400


async def test_another_tenants_operation_is_not_there(mesh, http):
    """Neither for who comes through Envoy, nor for who says there that he is somebody else."""
    theirs = Caller("theirs")
    async with channel_to(mesh) as channel:
        ingestions = RemoteIngestions(channel)
        given = await ingestions.start(theirs, P, several(1))
        for headers in ({}, {"x-astromesh-tenant": theirs.tenant}):
            asked = [
                await http.get(f"/v1/{given.name}", headers=headers),
                await http.get(f"/v1/{given.name}:watch", headers=headers),
                await http.post(f"/v1/{given.name}:cancel", json={}, headers=headers),
                await http.delete(f"/v1/{given.name}", headers=headers),
            ]
            listed = await http.get("/v1/operations", headers=headers)
            assert [each.status_code for each in asked] == [404] * 4
            reasons = {each.json()["details"][0]["reason"] for each in asked}
            assert reasons == {"OPERATION_NOT_FOUND"}
            assert given.name not in listed.text
        ended = await ingestions.wait(theirs, given.name, PATIENCE)
    assert (ended.state, ended.cancel) == (IngestionState.DONE, False)


async def test_the_command_line_hands_over_and_waits(mesh, tmp_path):
    (tmp_path / "cli.md").write_text(HOLIDAYS)
    here = ("--address", mesh.address)
    words = ("rag", "ingest", str(tmp_path), "-p", P, "--background", *here)
    given = await asyncio.to_thread(invoked, *words)
    name = given.out.strip()
    waited = await asyncio.to_thread(invoked, "rag", "operations", "wait", name, *here)
    listed = await asyncio.to_thread(invoked, "rag", "operations", "list", "-o", "json", *here)
    assert (given.code, waited.code) == (0, 0)
    assert "1 of 1 document: 1 created" in waited.out
    assert name in listed.out


def channel_to(mesh):
    return grpc.aio.insecure_channel(mesh.address)


async def several(count):
    for number in range(count):
        yield Document(f"{number:03}.md", f"{HOLIDAYS} It is rule {number}.".encode())


async def test_it_goes_on_after_the_mesh_was_stopped_and_has_every_document_once(tmp_path):
    """For one that is killed see tests/faults/test_ingestions.py."""
    stopped = asyncio.Event()
    async with held_texts({"rule 5.": stopped}) as model:
        declare(tmp_path, embeddings=embeds_with(model))
        args = services(tmp_path)
        with mesh_process(tmp_path, args) as mesh:
            async with channel_to(mesh) as channel:
                ingestions = RemoteIngestions(channel)
                given = await ingestions.start(ME, P, several(60), "r1")
                async for told in ingestions.watch(ME, given.name):
                    if told.done == 5:
                        break
                mesh.signal(signal.SIGTERM)
                stopped.set()
                assert await mesh.ended() == 0
        with mesh_process(tmp_path, args) as mesh:
            async with channel_to(mesh) as channel:
                ended = await RemoteIngestions(channel).wait(ME, given.name, PATIENCE)
                again = await RemoteIngestions(channel).start(ME, P, several(60), "r1")
                page = await RemoteRag(channel).documents(ME, P, 1000)
                chunks = (await RemoteRag(channel).pipeline(ME, P)).chunks
    assert (ended.state, ended.done, ended.failed) == (IngestionState.DONE, 60, 0)
    assert ended.created + ended.unchanged == 60
    assert again.name == given.name
    assert (len(page.documents), chunks) == (60, ended.chunks)


async def forgotten(ingestions, name):
    with suppress(NotFound):
        while await ingestions.get(ME, name):  # noqa: ASYNC110  # nobody tells of it
            await asyncio.sleep(0.01)


async def test_operations_that_ended_long_ago_are_forgotten(tmp_path):
    declare(tmp_path)
    async with mesh_of(tmp_path) as mesh:
        started = [await mesh.ingestions.start(ME, P, several(1)) for _ in range(2)]
        older, newer = [await mesh.ingestions.wait(ME, each.name, PATIENCE) for each in started]
    with sqlite3.connect(tmp_path / "state" / "ingestions.db") as database:
        for each, days in ((older, 7.1), (newer, 6.9)):
            end = time.time() - days * 86_400
            database.execute("UPDATE ingestion SET ended_at = ? WHERE id = ?", (end, each.id))
    database.close()
    async with mesh_of(tmp_path) as mesh, asyncio.timeout(PATIENCE):
        await forgotten(mesh.ingestions, older.name)
        left = await mesh.ingestions.list(ME, IngestionFilter())
        stored = await mesh.rag.documents(ME, P)
    assert [each.id for each in left.ingestions] == [newer.id]
    assert len(stored.documents) == 1  # what was taken in stays


async def test_agents_and_operations_work_with_a_rag_service_elsewhere(tmp_path):
    async with openai_server(Reply(("Thirty days [1].",))) as model:
        config = declare(tmp_path, agent("helper", model.endpoint, knowledge={"pipeline": P}))
        with mesh_process(tmp_path, services(tmp_path, "rag", "router")) as rag:
            place = {"rag": rag.address, "router": rag.address}
            runtime = {"apiVersion": "astromesh/v1", "kind": "RuntimeConfig"}
            runtime |= {"metadata": {"name": "placed"}, "spec": {"services": place}}
            (config / "runtime.yaml").write_text(yaml.safe_dump(runtime))
            others = services(tmp_path, "agents", "memory", "tools")
            with mesh_process(tmp_path, others) as agents:
                async with channel_to(rag) as far, channel_to(agents) as near:
                    ingestions = RemoteIngestions(far)
                    given = await ingestions.start(ME, P, several(3))
                    ended = await ingestions.wait(ME, given.name, PATIENCE)
                    request = RunRequest("helper", "how many days of holiday?")
                    run = await RemoteAgents(near).run(ME, request)
                    events = [each async for each in RemoteAgents(near).events(ME, run.id)]
    assert (ended.created, run.answer) == (3, "Thirty days [1].")
    (known,) = [each.payload for each in events if isinstance(each.payload, KnowledgeFound)]
    assert known.sources[0].document.endswith(".md")
