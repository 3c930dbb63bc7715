"""The small real model inside the mesh, asked through the public port."""

import json

import pytest
from astromesh.agents.v1 import agent_service_pb2, agent_service_pb2_grpc, run_pb2

from servers.kernel.json_schema import JsonSchema

LOCAL = {"provider": "local", "model": "smollm2-135m-instruct"}
SETTINGS = {"parameters": {"max_tokens": 12, "temperature": 0}}

pytestmark = pytest.mark.local_model


async def test_a_real_model_speaks_token_by_token(http, an_agent):
    helper = await an_agent(model={"primary": LOCAL | SETTINGS})
    question = {"query": "Say hello to Ada."}
    headers = {"accept": "text/event-stream"}
    events = []
    async with http.stream("POST", f"{helper.path}:stream", json=question, headers=headers) as told:
        async for line in told.aiter_lines():
            if line:
                events.append(json.loads(line.removeprefix("data: ")))
    pieces = [event["text_delta"]["text"] for event in events if "text_delta" in event]
    times = [event["time"] for event in events if "text_delta" in event]
    run = events[-1]["completed"]
    assert len(pieces) > 3
    assert times == sorted(set(times))  # each at its own time, not all at the end
    assert "".join(pieces) == run["answer"]
    assert 0 < run["usage"]["completion_tokens"] <= 12
    assert [used["provider"] for used in run["model_usage"]] == ["local"]


async def test_a_real_model_answers_from_documents_and_names_them(http, an_agent):
    text = "# Holidays\n\nEverybody has thirty days of holiday a year."
    document = {"id": "holidays.md", "text": text, "uri": "https://wiki/holidays.md"}
    await http.post("/v1/rag/handbook/documents", json={"document": document})
    model = {"primary": LOCAL | SETTINGS}
    helper = await an_agent(model=model, knowledge={"pipeline": "handbook"})
    plain = await an_agent(model=model)
    question = {"query": "How many days of holiday do I have?"}
    run = (await http.post(f"{helper.path}:run", json=question, timeout=60)).json()
    alone = (await http.post(f"{plain.path}:run", json=question, timeout=60)).json()
    events = (await http.get(f"/v1/runs/{run['run_id']}/events")).text
    told = [json.loads(line) for line in events.splitlines() if line]
    (known,) = [each["knowledge"]["sources"] for each in told if "knowledge" in each]
    assert run["state"] == alone["state"] == "RUN_STATE_COMPLETED"
    assert [(each["number"], each["uri"]) for each in known] == [(1, document["uri"])]
    assert run["usage"]["prompt_tokens"] > alone["usage"]["prompt_tokens"] + 20  # it was shown


async def test_a_real_model_counts_what_it_is_charged_with(http):
    chat = {"messages": [{"role": "ROLE_USER", "text": "Say hello to Ada."}]}
    asked = chat | {"candidates": [LOCAL], "sampling": {"max_tokens": 1}}
    answer = (await http.post("/v1/router:complete", json=asked, timeout=60)).json()
    counted = (await http.post("/v1/router:countTokens", json=chat | {"candidate": LOCAL})).json()
    assert (counted["exact"], counted["provider"]) == (True, "local")
    assert counted["tokens"] == answer["finish"]["usage"]["prompt_tokens"]


REVIEW = {
    "type": "object",
    "properties": {
        "mood": {"enum": ["good", "bad"]},
        "stars": {"type": "integer", "minimum": 1, "maximum": 5},
    },
    "required": ["mood", "stars"],
    "additionalProperties": False,
}
BRIEF = {"parameters": {"max_tokens": 40, "temperature": 0}}


@pytest.mark.timeout(300)
class TestAnAgentWhoseAnswersHaveAForm:
    async def test_answers_json_that_fits_over_grpc_and_rest(self, http, channel, an_agent):
        critic = await an_agent(model={"primary": LOCAL | BRIEF}, output_schema=REVIEW)
        question = {"query": "The soup was cold. Review it."}
        agents = agent_service_pb2_grpc.AgentServiceStub(channel)
        told = await agents.RunAgent(
            agent_service_pb2.RunAgentRequest(agent=critic.name, **question)
        )
        rest = (await http.post(f"{critic.path}:run", json=question, timeout=120)).json()
        for answer in (told.answer, rest["answer"]):
            assert JsonSchema(REVIEW).faults(json.loads(answer)) == []

    async def test_streams_them_when_they_fit(self, channel, an_agent):
        critic = await an_agent(model={"primary": LOCAL | BRIEF}, output_schema=REVIEW)
        request = agent_service_pb2.StreamAgentRequest(agent=critic.name, query="Review the soup.")
        stub = agent_service_pb2_grpc.AgentServiceStub(channel)
        events = [event async for event in stub.StreamAgent(request)]
        pieces = [e.text_delta.text for e in events if e.HasField("text_delta")]
        assert JsonSchema(REVIEW).faults(json.loads("".join(pieces))) == []


@pytest.mark.timeout(300)
async def test_a_chat_is_held_to_a_schema_over_rest(http):
    asked = {
        "messages": [{"role": "ROLE_USER", "text": "The soup was cold. Review it."}],
        "candidates": [LOCAL],
        "sampling": {"max_tokens": 40, "temperature": 0},
        "output_schema": REVIEW,
    }
    answer = (await http.post("/v1/router:complete", json=asked, timeout=120)).json()
    assert JsonSchema(REVIEW).faults(json.loads(answer["message"]["text"])) == []


@pytest.mark.timeout(300)
async def test_an_agent_with_tools_runs_on_a_model_without_any(channel, an_agent):
    helper = await an_agent(
        model={"primary": LOCAL | BRIEF},
        tools=[{"name": "current_time"}],
        orchestration={"max_iterations": 2},
    )
    request = agent_service_pb2.StreamAgentRequest(agent=helper.name, query="What is the time?")
    stub = agent_service_pb2_grpc.AgentServiceStub(channel)
    events = [event async for event in stub.StreamAgent(request)]
    replies = [event.model_reply for event in events if event.HasField("model_reply")]
    assert all(reply.emulated_tools for reply in replies)
    assert events[-1].completed.state == run_pb2.RUN_STATE_COMPLETED
    assert len(replies) == events[-1].completed.iterations
