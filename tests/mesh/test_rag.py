"""A folder of documents is taken in, and an agent answers from it: the whole way, over REST."""

import asyncio
import json
from pathlib import Path

import docx
import httpx
import pytest
import pytest_asyncio
import yaml

from tests.contract.rag_fixture import pipeline
from tests.mesh.mesh_process import mesh_process
from tests.mesh.program import Done, invoked
from tests.running import agent, write_agents
from tests.scripted.http_server import Reply
from tests.scripted.openai_server import openai_server

pytestmark = pytest.mark.asyncio(loop_scope="module")


def pdf(text: str) -> bytes:
    """A page with one line of text, as small as PDF gets."""
    shown = f"BT /F1 12 Tf 10 50 Td ({text}) Tj ET"
    objects = [
        "<</Type /Catalog /Pages 2 0 R>>",
        "<</Type /Pages /Kids [3 0 R] /Count 1>>",
        "<</Type /Page /Parent 2 0 R /MediaBox [0 0 600 100] /Contents 4 0 R "
        "/Resources <</Font <</F1 5 0 R>>>>>>",
        f"<</Length {len(shown)}>> stream\n{shown}\nendstream",
        "<</Type /Font /Subtype /Type1 /BaseFont /Helvetica>>",
    ]
    body, places = "%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(f"{len(body):010} 00000 n \n")
        body += f"{number} 0 obj {each} endobj\n"
    table = f"xref\n0 6\n0000000000 65535 f \n{''.join(places)}"
    end = f"trailer <</Root 1 0 R /Size 6>>\nstartxref\n{len(body)}\n%%EOF"
    return (body + table + end).encode()


PDF = pdf("Laptops are replaced after four years of use.")
TEXTS = {
    "holidays.md": "# Holidays\n\nEverybody has thirty days of holiday a year.",
    "rules/fire.html": "<title>Fire</title><p>Leave by the stairs when the alarm rings.</p>",
    "people.csv": "name,room\nAda Lovelace,B12\nAlan Turing,C7\n",
    "canteen.json": '{"title": "Canteen", "open": {"from": "11:30", "to": "14:00"}}',
    "notes.txt": "The parking garage closes at ten in the evening.",
    "junk.txt": "\0\0\0",
    "picture.bin": "not read",
}
FOUND = {
    "how long is my vacation": "holidays.md",
    "what to do in an emergency with smoke": "rules/fire.html",
    "in which room sits Alan Turing": "people.csv",
    "opening hours of the canteen": "canteen.json",
    "when do I get a new computer": "hardware.pdf",
    "how do I report being sick": "sick.docx",
}


def fill(folder: Path) -> Path:
    (folder / "rules").mkdir(parents=True)
    for name, text in TEXTS.items():
        (folder / name).write_text(text)
    (folder / "hardware.pdf").write_bytes(PDF)
    (folder / "broken.pdf").write_bytes(PDF[:100])
    letter = docx.Document()
    letter.add_paragraph("Who is ill calls the office before nine, and sends a doctor's note.")
    letter.save(str(folder / "sick.docx"))
    return folder


class World:
    def __init__(self, folder, mesh, model) -> None:
        self.documents, self.mesh, self.model = folder, mesh, model

    async def cli(self, *words: str) -> Done:
        return await asyncio.to_thread(invoked, *words, "--address", self.mesh.address)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rag")
    async with openai_server(Reply(("Thirty days [1].",))) as model:
        config = write_agents(
            folder, agent("helper", model.endpoint, knowledge={"pipeline": "handbook"})
        )
        (config / "rag").mkdir()
        said = pipeline(reranking={}, retrieval={"top_k": 3, "hybrid": True})
        (config / "rag" / "handbook.rag.yaml").write_text(yaml.safe_dump(said))
        documents = fill(folder / "documents")
        with mesh_process(folder) as mesh:
            world = World(documents, mesh, model)
            words = ("rag", "ingest", str(documents), "-p", "handbook", "--uri", "https://wiki")
            world.first = await world.cli(*words, "--meta", "kind=handbook")
            world.again = await world.cli(*words, "--meta", "kind=handbook")
            yield world


async def test_a_folder_is_taken_in_and_what_can_t_be_is_told(world):
    assert "9 documents: 7 created, 0 replaced, 0 unchanged, 2 failed" in world.first.out
    assert world.first.code != 0
    assert "junk.txt: the document can't be read: it holds NUL bytes" in world.first.err
    assert "broken.pdf: the document can't be read" in world.first.err


async def test_the_same_folder_again_changes_nothing(world):
    assert "9 documents: 0 created, 0 replaced, 7 unchanged, 2 failed" in world.again.out


@pytest.mark.parametrize(("question", "document"), FOUND.items())
async def test_every_kind_of_file_is_found(world, question, document):
    done = await world.cli("rag", "query", question, "-p", "handbook", "-o", "json")
    passages = json.loads(done.out)
    assert passages[0]["document"] == document
    assert passages[0]["uri"] == f"https://wiki/{document}"


async def test_an_agent_answers_with_its_sources_over_rest(world):
    async with httpx.AsyncClient(base_url=world.mesh.url, timeout=20, trust_env=False) as http:
        asked = {"query": "How long is my vacation?"}
        run = (await http.post("/v1/agents/helper:run", json=asked)).json()
        events = (await http.get(f"/v1/runs/{run['run_id']}/events")).text
    assert (run["state"], run["answer"]) == ("RUN_STATE_COMPLETED", "Thirty days [1].")
    told = [json.loads(line) for line in events.splitlines() if line]
    (known,) = [each["knowledge"] for each in told if "knowledge" in each]
    assert (known["sources"][0]["number"], known["sources"][0]["document"]) == (1, "holidays.md")
    shown = world.model.requests[-1].body["messages"][0]["content"]
    assert "[1] Holidays, https://wiki/holidays.md\n" in shown


async def test_the_seeds_paths_work_over_rest(world):
    async with httpx.AsyncClient(base_url=world.mesh.url, timeout=20, trust_env=False) as http:
        document = {"id": "rest/über uns.md", "text": "We make astrolabes of brass."}
        stored = (await http.post("/v1/rag/handbook/ingest", json={"document": document})).json()
        found = await http.post("/v1/rag/handbook/query", json={"query": "astrolabes", "top_k": 1})
        listed = (await http.get("/v1/rag/handbook/documents?page_size=100")).json()
        deleted = await http.delete("/v1/rag/handbook/documents/rest/%C3%BCber%20uns.md")
        bad = await http.post("/v1/rag/handbook/query", json={"query": "x", "top_k": 1000000000})
        pipelines = (await http.get("/v1/rag")).json()["pipelines"]
    assert stored["outcome"] == "INGEST_OUTCOME_CREATED"
    assert found.json()["passages"][0]["document"] == document["id"]
    assert document["id"] in [each["id"] for each in listed["documents"]]
    assert (deleted.status_code, deleted.json()["deleted_chunks"]) == (200, 1)
    assert bad.status_code == 400
    assert [(each["name"], each["ready"]) for each in pipelines] == [("handbook", True)]


async def test_lists_are_shown(world):
    assert "sick.docx" in (await world.cli("rag", "list", "-p", "handbook")).out
    assert "all-minilm-l6-v2" in (await world.cli("rag", "list")).out


async def test_a_pipeline_is_measured_on_questions(world, tmp_path):
    lines = [json.dumps({"query": q, "relevant": [d]}) for q, d in FOUND.items()]
    (tmp_path / "questions.jsonl").write_text("\n".join(lines))
    words = ("rag", "eval", str(tmp_path / "questions.jsonl"), "-p", "handbook")
    measured = json.loads((await world.cli(*words, "-o", "json")).out)
    assert (measured["questions"], measured["recall@10"], measured["MRR"]) == (6, 1.0, 1.0)
    assert "nDCG@10" in (await world.cli(*words)).out
