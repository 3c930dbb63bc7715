"""A folder of documents is taken in, and an agent answers from it: the whole way, over REST."""

import asyncio
import json
import os
import signal
from pathlib import Path

import docx
import httpx
import pytest
import pytest_asyncio
import yaml

from servers.cli import failures
from tests.contract.rag_fixture import pipeline
from tests.mesh.mesh_process import mesh_process
from tests.mesh.program import Done, invoked, start
from tests.patience import PATIENCE, until
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


STORES = ("faiss", "pgvector", "qdrant", "chroma")


def write_pipelines(folder: Path, database: str, model: str) -> None:
    """`handbook` with all that can be had, and one on each store that differ in a line or two."""
    full = pipeline(reranking={}, retrieval={"top_k": 3, "hybrid": True})
    address = {"pgvector": {"dsn": database}}
    plain = [
        pipeline(f"on-{store}", vector_store={"backend": store, **address.get(store, {})})
        for store in STORES
    ]
    various = pipeline("various", retrieval={"top_k": 3, "mmr": {}})
    alike = pipeline("alike", vector_store={"collection": "various"}, retrieval={"top_k": 3})
    vectors = {"provider": "openai_compat", "endpoint": model, "model": "m"}
    slow = pipeline("slow", embeddings=vectors)
    second = pipeline("second")
    folder.mkdir()
    for said in (full, *plain, various, alike, second, slow):
        (folder / f"{said['metadata']['name']}.rag.yaml").write_text(yaml.safe_dump(said))


class World:
    def __init__(self, folder, mesh, model) -> None:
        self.documents, self.mesh, self.model = folder, mesh, model

    async def cli(self, *words: str) -> Done:
        return await asyncio.to_thread(invoked, *words, "--address", self.mesh.address)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory, postgres):
    folder = tmp_path_factory.mktemp("rag")
    async with openai_server(Reply(("Thirty days [1].",))) as model:
        helpers = {"helper": "handbook", **{f"helper-{s}": f"on-{s}" for s in STORES}}
        helpers["helper-various"] = "various"
        agents = [
            agent(name, model.endpoint, knowledge={"pipeline": p}) for name, p in helpers.items()
        ]
        config = write_agents(folder, *agents)
        write_pipelines(config / "rag", postgres.schema(), model.endpoint)
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
    assert "the document 'junk.txt' can't be read: it holds NUL bytes" in world.first.err
    assert "the document 'broken.pdf' can't be read" in world.first.err


async def test_a_folder_that_is_broken_off_says_how_far_it_came(world, tmp_path):
    (tmp_path / os.fsdecode(b"a\xff.md")).write_text("x")
    (tmp_path / "b.md").write_text("x")
    replies = list(world.model.replies)
    world.model.replies[:] = [Reply(hold=asyncio.Event())]  # vectors that never come
    world.model.asked.clear()
    words = ("rag", "ingest", str(tmp_path), "-p", "slow", "--address", world.mesh.address)
    command = await start(*words)
    async with asyncio.timeout(PATIENCE):
        await world.model.asked.wait()
    command.send_signal(signal.SIGINT)
    _, err = await command.communicate()
    world.model.replies[:] = replies
    assert command.returncode == failures.INTERRUPTED
    assert b"its name is not in UTF-8" in err
    assert b"broken off after 1 of 2 documents; the same command goes on" in err


async def test_what_became_of_a_folder_is_told_to_programs(world):
    words = ("rag", "ingest", str(world.documents), "-p", "handbook", "-o", "json")
    done = await world.cli(*words, "--uri", "https://wiki", "--meta", "kind=handbook")
    told = json.loads(done.out)
    assert (told["unchanged"], told["failed"], done.code) == (7, 2, failures.FAILED)
    assert [each["document"] for each in told["failures"]] == ["broken.pdf", "junk.txt"]


async def test_an_operation_is_told_to_programs(world):
    words = ("rag", "ingest", str(world.documents / "holidays.md"), "-p", "second")
    begun = json.loads((await world.cli(*words, "--background", "-o", "json")).out)
    waited = await world.cli("rag", "operations", "wait", begun["name"], "-o", "json")
    ended = json.loads(waited.out)
    assert (ended["done"], ended["metadata"]["done"], waited.code) == (True, 1, 0)


async def test_the_same_folder_again_changes_nothing(world):
    assert "9 documents: 0 created, 0 replaced, 7 unchanged, 2 failed" in world.again.out


@pytest.mark.parametrize(("question", "document"), FOUND.items())
async def test_every_kind_of_file_is_found(world, question, document):
    done = await world.cli("rag", "query", question, "-p", "handbook", "-o", "json")
    passages = json.loads(done.out)
    assert passages[0]["document"] == document
    assert passages[0]["uri"] == f"https://wiki/{document}"


async def answered(world, agent_name: str, question: str) -> tuple[dict, dict, str]:
    """The run, the event that names its sources, and what the model was shown."""
    async with httpx.AsyncClient(
        base_url=world.mesh.url, timeout=PATIENCE, trust_env=False
    ) as http:
        run = (await http.post(f"/v1/agents/{agent_name}:run", json={"query": question})).json()
        events = (await http.get(f"/v1/runs/{run['run_id']}/events")).text
    told = [json.loads(line) for line in events.splitlines() if line]
    (known,) = [each["knowledge"] for each in told if "knowledge" in each]
    return run, known, world.model.requests[-1].body["messages"][0]["content"]


async def test_an_agent_answers_with_its_sources_over_rest(world):
    run, known, shown = await answered(world, "helper", "How long is my vacation?")
    assert (run["state"], run["answer"]) == ("RUN_STATE_COMPLETED", "Thirty days [1].")
    assert (known["sources"][0]["number"], known["sources"][0]["document"]) == (1, "holidays.md")
    assert "[1] Holidays, https://wiki/holidays.md\n" in shown
    first, *others = run["sources"]
    assert first == {**known["sources"][0], "cited": True}
    assert others == known["sources"][1:]


@pytest.mark.parametrize("store", STORES)
async def test_another_backend_is_another_line_of_yaml(world, store):
    """Taken in on the command line, the same documents give the same answer with sources."""
    words = ("rag", "ingest", str(world.documents), "-p", f"on-{store}", "--uri", "https://wiki")
    taken = await world.cli(*words)
    assert "9 documents: 7 created, 0 replaced, 0 unchanged, 2 failed" in taken.out
    run, known, shown = await answered(world, f"helper-{store}", "How long is my vacation?")
    source = known["sources"][0]
    assert (run["state"], run["answer"]) == ("RUN_STATE_COMPLETED", "Thirty days [1].")
    assert (source["number"], source["document"], source["title"]) == (1, "holidays.md", "Holidays")
    assert "[1] Holidays, https://wiki/holidays.md\n" in shown
    assert TEXTS["holidays.md"].splitlines()[-1] in shown


COPIES = {f"copy-{n}.md": f"Everybody has thirty days of holiday a year{'!' * n}" for n in range(9)}
OTHERS = {
    "asking.md": "Who wants to go on holiday asks the lead first.",
    "sick.md": "Days on which one is ill don't count as holiday.",
}
ASKED = "How many days of holiday are there in a year?"


async def test_copies_leave_room_for_what_else_there_is_to_say(world, tmp_path):
    """The agent is shown three passages: without `mmr` three copies of one."""
    for name, text in (COPIES | OTHERS).items():
        (tmp_path / name).write_text(text)
    await world.cli("rag", "ingest", str(tmp_path), "-p", "various")
    _, known, shown = await answered(world, "helper-various", ASKED)
    first, *others = [each["document"] for each in known["sources"]]
    assert (first in COPIES, set(others)) == (True, set(OTHERS))
    assert all(text in shown for text in OTHERS.values())
    plain = await world.cli("rag", "query", ASKED, "-p", "alike", "-o", "json")
    assert {each["document"] for each in json.loads(plain.out)} < set(COPIES)
    words = ("rag", "query", ASKED, "-p", "alike", "--mmr", "0.5", "-o", "json")
    passages = json.loads((await world.cli(*words)).out)
    assert {each["document"] for each in passages} > set(OTHERS)
    async with httpx.AsyncClient(
        base_url=world.mesh.url, timeout=PATIENCE, trust_env=False
    ) as http:
        said = {"query": ASKED, "mmr": {"fetch_k": 3}}  # all three are copies
        few = (await http.post("/v1/rag/alike:query", json=said)).json()["passages"]
    assert {each["document"] for each in few} < set(COPIES)
    file = questions_file(tmp_path, {ASKED: "sick.md"})
    words = ("rag", "eval", file, "-p", "alike", "-p", "various", "-o", "json")
    found = json.loads((await world.cli(*words)).out)["pipelines"]
    assert found["various"]["recall@3"] == 1.0 > found["alike"]["recall@3"]


async def test_the_seeds_paths_work_over_rest(world):
    async with httpx.AsyncClient(
        base_url=world.mesh.url, timeout=PATIENCE, trust_env=False
    ) as http:
        document = {"id": "rest/über uns.md", "text": "We make astrolabes of brass."}
        stored = (await http.post("/v1/rag/handbook/ingest", json={"document": document})).json()
        found = await http.post("/v1/rag/handbook/query", json={"query": "astrolabes", "top_k": 1})
        listed = (await http.get("/v1/rag/handbook/documents?page_size=100")).json()
        deleted = await http.delete("/v1/rag/handbook/documents/rest/%C3%BCber%20uns.md")
        bad = await http.post("/v1/rag/handbook/query", json={"query": "x", "top_k": 1000000000})

        async def all_ready():  # the model of one could not answer while the mesh was started
            pipelines = (await http.get("/v1/rag")).json()["pipelines"]
            return all(each["ready"] for each in pipelines) and pipelines

        pipelines = await until(all_ready)
    assert stored["outcome"] == "INGEST_OUTCOME_CREATED"
    assert found.json()["passages"][0]["document"] == document["id"]
    assert document["id"] in [each["id"] for each in listed["documents"]]
    assert (deleted.status_code, deleted.json()["deleted_chunks"]) == (200, 1)
    assert bad.status_code == 400
    assert [each["name"] for each in pipelines] == [
        "alike",
        "handbook",
        *sorted(f"on-{store}" for store in STORES),
        "second",
        "slow",
        "various",
    ]


async def test_lists_are_shown(world):
    assert "sick.docx" in (await world.cli("rag", "list", "-p", "handbook")).out
    assert "all-minilm-l6-v2" in (await world.cli("rag", "list")).out


def questions_file(folder: Path, questions: dict[str, str]) -> str:
    lines = [json.dumps({"query": q, "relevant": [d]}) for q, d in questions.items()]
    (folder / "questions.jsonl").write_text("\n".join(lines))
    return str(folder / "questions.jsonl")


async def test_pipelines_are_measured_side_by_side(world, tmp_path):
    await world.cli("rag", "ingest", str(world.documents), "-p", "second")
    words = ("rag", "eval", questions_file(tmp_path, FOUND), "-p", "handbook", "-p", "second")
    picture = tmp_path / "recall.svg"
    measured = json.loads((await world.cli(*words, "-o", "json", "--plot", str(picture))).out)
    full = measured["pipelines"]["handbook"]
    assert (measured["questions"], full["recall@10"], full["MRR"]) == (6, 1.0, 1.0)
    assert measured["pipelines"]["second"]["recall_by_k"][-1] == 1.0
    assert "<svg" in picture.read_text()
    table = (await world.cli(*words)).out
    assert "nDCG@10" in table
    assert table.index("handbook") < table.index("second")


async def test_a_question_on_a_document_that_is_not_there_is_refused(world, tmp_path):
    file = questions_file(tmp_path, {"what is it": "holiday.md"})
    done = await world.cli("rag", "eval", file, "-p", "handbook")
    assert done.code != 0
    assert "line 1: the pipeline 'handbook' has no document 'holiday.md'" in done.err
    assert "did you mean 'holidays.md'?" in done.err
