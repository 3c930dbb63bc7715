"""Rules hold at the public port of a started mesh, on every way to read a run."""

import json

from astromesh.agents.v1 import agent_service_pb2 as pb
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from astromesh.agents.v1 import run_event_pb2, run_pb2

from tests.scripted.http_server import Call, Reply

SECRET = "ada@quixotic.org"
TOLD = {"query": f"I am {SECRET}", "session_id": "s"}
CUT = ("Dear ad", "a@quix", "otic.org", ", hello.")
WANTS = Reply((), calls=[Call("calculator", f'{{"expression": "{SECRET}"}}')])
REDACT = {"input": [{"type": "pii_detection"}], "output": [{"type": "pii_detection"}]}
MEMORY = {"conversational": {"backend": "sqlite"}}
SSE = {"accept": "text/event-stream"}


async def streamed(http, path, **how):
    async with http.stream(**{"method": "POST", "url": path, "headers": SSE} | how) as answer:
        assert answer.status_code == 200, await answer.aread()
        return "".join([line async for line in answer.aiter_lines()])


def texts(stream):
    events = [json.loads(each) for each in stream.split("data: ") if each]
    return "".join(event["text_delta"]["text"] for event in events if "text_delta" in event)


async def test_no_face_shows_what_was_redacted(http, channel, edge_channel, an_agent):
    helper = await an_agent(
        WANTS, Reply(CUT), tools=[{"name": "calculator"}], guardrails=REDACT, memory=MEMORY
    )
    shown = await streamed(http, f"{helper.path}:stream", json=TOLD)
    assert texts(shown) == "Dear [EMAIL], hello."
    assert '"rule":"pii_detection"' in shown.replace(" ", "")
    run_id = json.loads(shown.split("data: ")[1])["run_id"]
    shown += await streamed(http, f"/v1/runs/{run_id}/events", method="GET")
    shown += (await http.get(f"/v1/runs/{run_id}")).text
    shown += (await http.post(f"{helper.path}:run", json=TOLD)).text
    for way in (channel, edge_channel):
        stub = agents_grpc.AgentServiceStub(way)
        request = pb.StreamAgentRequest(agent=helper.name, query=TOLD["query"], session_id="s")
        shown += str([event async for event in stub.StreamAgent(request)])
        events = stub.StreamRunEvents(run_event_pb2.StreamRunEventsRequest(run=run_id))
        shown += str([event async for event in events])
        shown += str(await stub.GetRun(run_pb2.GetRunRequest(run=run_id)))
    assert "quix" not in shown
    assert "quix" not in str([asked.body for asked in helper.model.requests])


async def test_a_block_is_an_answer_with_status_200(http, an_agent):
    block = [{"type": "pii_detection", "action": "block", "message": "No addresses."}]
    helper = await an_agent(Reply(CUT), guardrails={"output": block})
    answer = await http.post(f"{helper.path}:run", json={"query": "hello?"})
    assert answer.status_code == 200
    run = answer.json()
    assert (run["state"], run["answer"]) == ("RUN_STATE_BLOCKED", "No addresses.")
    assert run["block"]["rule"] == "pii_detection"
    assert run["block"]["message"] == "No addresses."


async def test_a_faulty_rule_is_refused_by_its_place(http):
    spec = {
        "model": {"primary": {"provider": "company"}},
        "guardrails": {"output": [{"type": "content_filter", "options": {"patterns": ["a(b"]}}]},
    }
    manifest = {
        "api_version": "astromesh/v1",
        "kind": "Agent",
        "metadata": {"name": "faulty"},
        "spec": spec,
    }
    answer = await http.post("/v1/agents", json=manifest)
    assert answer.status_code == 400
    assert "spec.guardrails.output[0].options.patterns" in answer.text
