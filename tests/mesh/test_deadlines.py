"""A caller's time, and a caller that leaves: both end the run and the provider's request."""

import asyncio

import grpc
import httpx
import pytest
from astromesh.agents.v1 import agent_service_pb2 as pb
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from astromesh.agents.v1 import run_pb2

from tests.patience import PATIENCE, PROMPTLY
from tests.scripted.http_server import Reply, Then

HALF = Reply(("Once upon",), then=Then.HANG)
DEADLINES = (1, 5, 25)  # seconds
HELLO = {"query": "hello?"}


@pytest.fixture(params=["channel", "edge_channel"], ids=["direct", "envoy"])
def agents(request):
    return agents_grpc.AgentServiceStub(request.getfixturevalue(request.param))


async def on_record(http, helper):
    """The only run of an agent, when it has ended."""
    (run,) = (await http.get(f"{helper.path}/runs")).json()["runs"]
    events = (await http.get(f"/v1/runs/{run['run_id']}/events")).text
    assert '"completed"' in events.splitlines()[-1]
    return (await http.get(f"/v1/runs/{run['run_id']}")).json()


@pytest.fixture
def in_time(an_agent):
    """The agent, and what `ask` hears of it with the first deadline that leaves time for the
    first words of its model: how long they take is the machine's business."""

    async def heard(ask, spec=lambda seconds: {}):
        for seconds in DEADLINES:
            helper = await an_agent(HALF, **spec(seconds))
            try:
                told = await ask(helper, seconds)
            except grpc.aio.AioRpcError:
                if seconds == DEADLINES[-1]:
                    raise
            else:
                if "Once upon" in str(told):
                    break
        return helper, told

    return heard


class TestADeadline:
    """The run ends a moment before its caller gives up, so that the caller hears of it."""

    async def test_over_grpc_ends_the_run(self, http, in_time, agents):
        async def ask(helper, seconds):
            request = pb.RunAgentRequest(agent=helper.name, **HELLO)
            return await agents.RunAgent(request, timeout=seconds)

        helper, run = await in_time(ask)
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)
        assert (run.state, run.answer) == (run_pb2.RUN_STATE_TIMED_OUT, "Once upon")
        assert (await on_record(http, helper))["state"] == "RUN_STATE_TIMED_OUT"

    async def test_over_rest_ends_the_run(self, http, in_time):
        async def ask(helper, seconds):
            headers = {"grpc-timeout": f"{seconds}S"}
            answer = await http.post(f"{helper.path}:run", json=HELLO, headers=headers)
            return answer.status_code, answer.json()

        helper, answer = await in_time(ask)
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)
        run = await on_record(http, helper)
        assert answer == (200, run)
        assert (run["state"], run["answer"]) == ("RUN_STATE_TIMED_OUT", "Once upon")

    async def test_ends_a_stream_too(self, in_time, agents):
        async def ask(helper, seconds):
            request = pb.StreamAgentRequest(agent=helper.name, **HELLO)
            return [event async for event in agents.StreamAgent(request, timeout=seconds)]

        helper, events = await in_time(ask)
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)
        assert events[-1].completed.state == run_pb2.RUN_STATE_TIMED_OUT

    async def test_too_short_for_anything_is_a_504(self, http, an_agent):
        helper = await an_agent(HALF)
        headers = {"grpc-timeout": "1u"}
        answer = await http.post(f"{helper.path}:run", json=HELLO, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (504, 4)

    async def test_of_the_agent_gives_what_there_was(self, http, in_time):
        async def ask(helper, _):
            return (await http.post(f"{helper.path}:run", json=HELLO)).json()

        short = lambda seconds: {"orchestration": {"timeout_seconds": seconds * 0.3}}  # noqa: E731
        helper, run = await in_time(ask, short)
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)
        assert (run["state"], run["stop_reason"], run["answer"]) == (
            "RUN_STATE_TIMED_OUT",
            "STOP_REASON_DEADLINE",
            "Once upon",
        )


class TestACallerThatLeaves:
    @pytest.mark.parametrize("headers", [{}, {"accept": "text/event-stream"}], ids=["json", "sse"])
    async def test_a_rest_stream_cancels_the_run(self, http, an_agent, headers):
        helper = await an_agent(HALF)
        path = f"{helper.path}:stream"
        async with http.stream("POST", path, json=HELLO, headers=headers) as answer:
            async for line in answer.aiter_lines():
                if "Once upon" in line:
                    break
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)
        run = await on_record(http, helper)
        assert (run["state"], run["answer"]) == ("RUN_STATE_CANCELLED", "Once upon")

    async def test_a_rest_call_cancels_the_run(self, http, started, an_agent):
        helper = await an_agent(HALF)
        async with httpx.AsyncClient(
            base_url=started.url, timeout=PATIENCE, trust_env=False
        ) as leaving:
            waiting = asyncio.create_task(leaving.post(f"{helper.path}:run", json=HELLO))
            await asyncio.wait_for(helper.model.asked.wait(), PATIENCE)
            waiting.cancel()
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)
        assert (await on_record(http, helper))["state"] == "RUN_STATE_CANCELLED"

    async def test_a_grpc_stream_cancels_the_run(self, http, an_agent, agents):
        helper = await an_agent(HALF)
        call = agents.StreamAgent(pb.StreamAgentRequest(agent=helper.name, **HELLO))
        await call.read()
        await asyncio.wait_for(helper.model.asked.wait(), PATIENCE)
        call.cancel()
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)
        assert (await on_record(http, helper))["state"] == "RUN_STATE_CANCELLED"

    async def test_a_chat_cancels_the_run(self, http, an_agent, agents):
        helper = await an_agent(HALF)
        call = agents.Chat()
        await call.write(pb.ChatRequest(agent=helper.name, **HELLO))
        await asyncio.wait_for(helper.model.asked.wait(), PATIENCE)
        call.cancel()
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)
        assert (await on_record(http, helper))["state"] == "RUN_STATE_CANCELLED"

    async def test_a_stream_that_says_continue_lets_the_run_go_on(self, http, an_agent, agents):
        go = asyncio.Event()
        helper = await an_agent(Reply(("done",), hold=go))
        request = pb.StreamAgentRequest(agent=helper.name, on_disconnect="continue", **HELLO)
        call = agents.StreamAgent(request)
        await call.read()
        await asyncio.wait_for(helper.model.asked.wait(), PATIENCE)
        call.cancel()
        go.set()
        assert (await on_record(http, helper))["answer"] == "done"
