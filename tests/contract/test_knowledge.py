"""Agents that look things up, checked in process and over the wire alike."""

import contextlib
import json

import pytest
import yaml

from servers.domain.caller import Caller
from servers.domain.rag import Document
from servers.domain.run_events import KnowledgeFound, Noticed, ToolReturned
from servers.domain.runs import Decision, RunRequest, RunState, Verdict
from servers.domain.tools import Outcome
from servers.kernel.errors import NotReady
from tests.contract.rag_fixture import pipeline
from tests.running import agent, in_process, mesh_of, over_the_wire
from tests.scripted.http_server import Call, Reply
from tests.scripted.openai_server import openai_server

ADA = Caller("acme", "ada")
KNOWS = {"knowledge": {"pipeline": "handbook", "top_k": 2}}
SEARCH = {"tools": [{"name": "search", "type": "rag", "pipeline": "handbook", "top_k": 1}]}
HOLIDAYS = "Everybody has thirty days of holiday a year."
DOCUMENTS = [
    Document("holidays.txt", HOLIDAYS.encode(), uri="https://wiki/holidays", title="Holidays"),
    Document("lunch.txt", b"The canteen serves soup at noon.", title="Lunch"),
    Document("secret.txt", b"Holiday money is paid twice in June.", acl=("bob",)),
]
ASK = RunRequest("helper", "How long is my holiday?")
ANSWER = Reply(("Thirty days [1].",))
# A run that waits for a person.
PERSON = [{"name": "ask", "type": "client", "description": "Asks a person."}]
WAITS, YES = Reply((), calls=[Call("ask", "{}")]), Decision("", Verdict.RESULT, content="yes")


@pytest.fixture(params=[in_process, over_the_wire], ids=lambda f: f.__name__)
def reached(request):
    return request.param


@pytest.fixture
def world(reached, tmp_path):
    @contextlib.asynccontextmanager
    async def started(*replies, documents=DOCUMENTS, store=None, **spec):
        folder = tmp_path / "config" / "rag"
        folder.mkdir(parents=True)
        said = pipeline(vector_store=store) if store else pipeline()
        (folder / "handbook.rag.yaml").write_text(yaml.safe_dump(said))
        async with (
            openai_server(*replies) as model,
            mesh_of(tmp_path, agent("helper", model.endpoint, **spec)) as mesh,
            reached(mesh) as agents,
        ):
            for each in documents:
                await mesh.rag.ingest(ADA, "handbook", each)
            yield agents, model

    return started


async def told(agents, run, kind):
    events = [each.payload async for each in agents.events(ADA, run.id)]
    return [each for each in events if isinstance(each, kind)]


def system(model, call=0):
    first = model.requests[call].body["messages"][0]
    return first["content"] if first["role"] == "system" else ""


class TestKnowledge:
    async def test_is_in_the_prompt_with_numbers(self, world):
        async with world(ANSWER, prompts={"system": "Be kind."}, **KNOWS) as (agents, model):
            run = await agents.run(ADA, ASK)
            assert (run.state, run.answer) == (RunState.COMPLETED, "Thirty days [1].")
            assert system(model).startswith("Be kind.\n\n")
            assert f"[1] Holidays, https://wiki/holidays\n{HOLIDAYS}" in system(model)
            assert "[2] Lunch\n" in system(model)

    async def test_is_told_of_with_the_place_of_every_source(self, world):
        async with world(ANSWER, **KNOWS) as (agents, _):
            run = await agents.run(ADA, ASK)
            (found,) = await told(agents, run, KnowledgeFound)
            first = found.sources[0]
            assert (found.pipeline, found.call_id, len(found.sources)) == ("handbook", "", 2)
            assert (first.number, first.document, first.uri) == (
                1,
                "holidays.txt",
                "https://wiki/holidays",
            )
            assert (first.start, first.end) == (0, len(HOLIDAYS))

    async def test_of_others_is_never_seen(self, world):
        async with world(ANSWER, **KNOWS) as (agents, model):
            await agents.run(ADA, ASK)
            assert "twice in June" not in system(model)

    async def test_of_an_empty_pipeline_adds_nothing(self, world):
        async with world(ANSWER, documents=[], **KNOWS) as (agents, model):
            run = await agents.run(ADA, ASK)
            assert (run.state, system(model)) == (RunState.COMPLETED, "")

    async def test_that_can_t_be_fetched_never_fails_a_run(self, world):
        away = {"backend": "qdrant", "url": "http://127.0.0.1:9"}
        async with world(ANSWER, documents=[], store=away, **KNOWS) as (agents, model):
            run = await agents.run(ADA, ASK)
            (notice,) = await told(agents, run, Noticed)
            assert (run.state, notice.reason) == (RunState.COMPLETED, "KNOWLEDGE_UNAVAILABLE")
            assert "Qdrant at http://127.0.0.1:9 can't be reached" in notice.message
            assert system(model) == ""

    async def test_that_could_not_be_fetched_is_not_asked_for_when_a_run_goes_on(self, world):
        away = {"backend": "qdrant", "url": "http://127.0.0.1:9"}
        spec = {"documents": [], "store": away, "tools": PERSON, **KNOWS}
        async with world(WAITS, ANSWER, **spec) as (agents, _):
            run = await agents.run(ADA, ASK)
            run = await agents.resume(ADA, run.id, YES, wait=True)
            notices = await told(agents, run, Noticed)
            assert [each.reason for each in notices] == ["KNOWLEDGE_UNAVAILABLE"]
            assert await told(agents, run, KnowledgeFound) == [KnowledgeFound("handbook", ())]

    async def test_goes_through_the_guardrails_of_tool_results(self, world):
        rules = {"guardrails": {"input": [{"type": "pii_detection", "action": "redact"}]}}
        documents = [Document("a.txt", b"Holidays: ask kim@example.com about your holiday.")]
        async with world(ANSWER, documents=documents, **rules, **KNOWS) as (agents, model):
            await agents.run(ADA, ASK)
            assert "ask [EMAIL] about" in system(model)

    async def test_of_a_pipeline_that_is_not_there_is_an_error_at_load(self, world):
        wrong = {"knowledge": {"pipeline": "handbok"}}
        async with world(ANSWER, **wrong) as (agents, _):
            with pytest.raises(NotReady) as caught:
                await agents.run(ADA, ASK)
            assert "spec.knowledge.pipeline" in caught.value.message
            assert "'handbook'" in caught.value.message

    async def test_stays_as_it_was_when_a_run_goes_on_after_it_waited(self, world):
        async with world(WAITS, ANSWER, tools=PERSON, **KNOWS) as (agents, model):
            run = await agents.run(ADA, ASK)
            assert run.state is RunState.WAITING_INPUT
            run = await agents.resume(ADA, run.id, YES, wait=True)
            assert run.state is RunState.COMPLETED
            assert len(await told(agents, run, KnowledgeFound)) == 1
            assert system(model, 1) == system(model, 0) != ""

    async def test_is_what_a_run_rests_on_also_where_it_is_cancelled_while_it_waits(self, world):
        said = Reply(("As [1] says,",), calls=WAITS.calls)
        async with world(said, tools=PERSON, **KNOWS) as (agents, _):
            run = await agents.run(ADA, ASK)
            run = await agents.cancel(ADA, run.id)
            assert (run.state, run.answer) == (RunState.CANCELLED, "As [1] says,")
            assert [(each.document, each.cited) for each in run.sources] == [
                ("holidays.txt", True),
                ("lunch.txt", False),
            ]


class TestATool:
    async def test_finds_passages(self, world):
        calls = [Call("search", json.dumps({"query": "canteen food"}))]
        async with world(Reply((), calls=calls), ANSWER, **SEARCH) as (agents, model):
            run = await agents.run(ADA, ASK)
            (result,) = await told(agents, run, ToolReturned)
            assert result.content == "[1] Lunch\nThe canteen serves soup at noon."
            (found,) = await told(agents, run, KnowledgeFound)
            assert (found.call_id, found.sources[0].document) == ("1.0", "lunch.txt")
            offered = model.requests[0].body["tools"][0]["function"]
            assert (offered["name"], offered["parameters"]["required"]) == ("search", ["query"])

    async def test_goes_on_with_the_numbers_of_the_knowledge(self, world):
        calls = [Call("search", '{"query": "canteen"}')]
        async with world(Reply((), calls=calls), ANSWER, **SEARCH, **KNOWS) as (agents, _):
            run = await agents.run(ADA, ASK)
            found = await told(agents, run, KnowledgeFound)
            assert [[each.number for each in one.sources] for one in found] == [[1, 2], [3]]

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ("{", "no JSON"),
            ("{}", "don't fit"),
            ('{"query": "x", "more": 1}', "don't fit"),
            ('{"query": "x", "top_k": 0}', "don't fit"),
        ],
    )
    async def test_tells_the_model_what_is_wrong(self, world, arguments, said):
        reply = Reply((), calls=[Call("search", arguments)])
        async with world(reply, ANSWER, **SEARCH) as (agents, _):
            run = await agents.run(ADA, ASK)
            (result,) = await told(agents, run, ToolReturned)
            assert (run.state, result.outcome, said in result.content) == (
                RunState.COMPLETED,
                Outcome.ERROR,
                True,
            )

    async def test_without_a_pipeline_to_ask_is_an_error_at_load(self, world):
        async with world(ANSWER, tools=[{"name": "search", "type": "rag"}]) as (agents, _):
            with pytest.raises(NotReady) as caught:
                await agents.run(ADA, ASK)
            assert "spec.tools[0].name: there is no pipeline 'search'" in caught.value.message
