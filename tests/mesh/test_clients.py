"""Clients that are not ours, or on another stack, against a started mesh."""

import asyncio
import json
import struct
import sys
from asyncio.subprocess import PIPE
from contextlib import closing
from pathlib import Path

import grpc
import pytest
from astromesh.agents.v1 import agent_service_pb2 as pb
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from astromesh.agents.v1 import run_event_pb2, run_pb2
from astromesh_client.astromesh.agents import v1 as client
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from grpclib import GRPCError, Status
from grpclib.client import Channel

from tests.patience import PROMPTLY
from tests.scripted.http_server import Call, Reply, Then

AGENTS = "astromesh.agents.v1.AgentService"
MEMORY = {"conversational": {"backend": "sqlite", "strategy": "sliding_window", "max_turns": 4}}
ADD = Reply((), calls=[Call("calculator", '{"expression": "2+3"}')])


@pytest.fixture(params=["direct", "envoy"])
def address(request, started):
    """host:port of gRPC, straight and through Envoy."""
    return started.address if request.param == "direct" else started.url.removeprefix("http://")


class TestTheGeneratedClient:
    """gen/astromesh_client speaks through grpclib, an HTTP/2 stack that is not grpc's."""

    @pytest.fixture
    async def agents(self, address):
        host, _, port = address.partition(":")
        with closing(Channel(host, int(port))) as channel:
            yield client.AgentServiceStub(channel)

    async def test_runs_an_agent(self, agents, an_agent):
        helper = await an_agent(Reply(("Good ", "day")))
        run = await agents.run_agent(client.RunAgentRequest(agent=helper.name, query="hello?"))
        assert (run.state, run.answer) == (client.RunState.COMPLETED, "Good day")

    async def test_streams_a_run(self, agents, an_agent):
        helper = await an_agent(Reply(("Good ", "day")))
        request = client.StreamAgentRequest(agent=helper.name, query="hello?")
        events = [event async for event in agents.stream_agent(request)]
        assert [event.text_delta.text for event in events if event.text_delta] == ["Good ", "day"]
        assert events[-1].completed.answer == "Good day"

    async def test_hears_while_the_model_speaks(self, agents, an_agent):
        helper = await an_agent(Reply(("Once",), then=Then.HANG))
        request = client.StreamAgentRequest(agent=helper.name, query="hello?")
        stream = agents.stream_agent(request)
        async for event in stream:
            if event.text_delta:
                break
        await stream.aclose()
        await asyncio.wait_for(helper.model.left.wait(), PROMPTLY)

    async def test_gets_errors_with_their_details(self, agents):
        with pytest.raises(GRPCError) as failed:
            await agents.run_agent(client.RunAgentRequest(agent="nobody", query="hello?"))
        assert failed.value.status is Status.NOT_FOUND
        assert "nobody" in failed.value.message
        (info,) = failed.value.details
        assert info.reason.endswith("NOT_FOUND")
        assert dict(info.metadata) == {"agent": "nobody"}

    async def test_chats(self, agents, an_agent):
        helper = await an_agent(Reply(("one",)), Reply(("two",)))

        async def messages():
            for query in ("first", "second"):
                yield client.ChatRequest(agent=helper.name, query=query)

        events = [event async for event in agents.chat(messages())]
        assert [e.completed.answer for e in events if e.completed] == ["one", "two"]


class TestGrpc:
    """Direct and through Envoy alike."""

    @pytest.fixture
    async def agents(self, address):
        async with grpc.aio.insecure_channel(address) as channel:
            yield agents_grpc.AgentServiceStub(channel)

    async def test_runs_an_agent_with_a_tool(self, agents, an_agent):
        helper = await an_agent(ADD, Reply(("It is 5",)), tools=[{"name": "calculator"}])
        run = await agents.RunAgent(pb.RunAgentRequest(agent=helper.name, query="2+3?"))
        assert (run.state, run.answer) == (run_pb2.RUN_STATE_COMPLETED, "It is 5")

    async def test_tells_an_error_with_its_details(self, agents):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await agents.RunAgent(pb.RunAgentRequest(agent="nobody", query=""))
        bad = error_details_pb2.BadRequest()
        rpc_status.from_call(failed.value).details[1].Unpack(bad)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [each.field for each in bad.field_violations] == ["query"]

    async def test_chats_in_one_session(self, agents, an_agent):
        helper = await an_agent(Reply(("Hi Ada",)), Reply(("You are Ada",)), memory=MEMORY)
        call = agents.Chat()
        await call.write(pb.ChatRequest(agent=helper.name, query="I am Ada"))
        first = await heard(call)
        await call.write(pb.ChatRequest(query="Who am I?"))
        second = await heard(call)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert (first.answer, second.answer) == ("Hi Ada", "You are Ada")
        assert first.session_id == second.session_id
        shown = [m["content"] for m in helper.model.requests[1].body["messages"]]
        assert shown == ["I am Ada", "Hi Ada", "Who am I?"]

    async def test_lets_a_message_wait_for_the_run_before_it(self, agents, an_agent):
        helper = await an_agent(Reply(("one",)), Reply(("two",)))
        call = agents.Chat()
        for query in ("first", "second"):
            await call.write(pb.ChatRequest(agent=helper.name, query=query))
        await call.done_writing()
        assert [(await heard(call)).answer for _ in range(2)] == ["one", "two"]

    async def test_says_the_same_as_rest(self, agents, an_agent, http):
        helper = await an_agent()
        run = await agents.RunAgent(pb.RunAgentRequest(agent=helper.name, query="hello?"))
        shown = (await http.get(f"/v1/runs/{run.run_id}")).json()
        assert (shown["answer"], shown["session_id"]) == (run.answer, run.session_id)


async def heard(call):
    """The run that the next events tell of."""
    while (event := await call.read()) is not grpc.aio.EOF:
        if event.HasField("completed"):
            return event.completed
    raise AssertionError("the conversation ended early")


class TestGrpcWeb:
    HEADERS = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}  # noqa: RUF012

    async def test_runs_an_agent(self, http, an_agent):
        helper = await an_agent(Reply(("Good day",)))
        request = pb.RunAgentRequest(agent=helper.name, query="hello?")
        message, trailers = await self.asked(http, "RunAgent", request)
        assert run_pb2.Run.FromString(message).answer == "Good day"
        assert b"grpc-status:0" in trailers

    async def test_streams_a_run(self, http, an_agent):
        helper = await an_agent(Reply(("Good day",)))
        request = pb.StreamAgentRequest(agent=helper.name, query="hello?")
        *messages, _ = await self.asked(http, "StreamAgent", request)
        events = [run_event_pb2.RunEvent.FromString(message) for message in messages]
        assert events[-1].completed.answer == "Good day"

    async def asked(self, http, method, request):
        """The frames of the answer: messages, then trailers."""
        body = request.SerializeToString()
        framed = struct.pack(">BI", 0, len(body)) + body
        answer = await http.post(f"/{AGENTS}/{method}", content=framed, headers=self.HEADERS)
        rest, frames = answer.content, []
        while rest:
            _, length = struct.unpack(">BI", rest[:5])
            frames.append(rest[5 : 5 + length])
            rest = rest[5 + length :]
        return frames


async def grpcurl(*args):
    """Exit code, stdout and stderr of the real grpcurl."""
    program = Path(sys.executable).parent / "grpcurl"
    process = await asyncio.create_subprocess_exec(
        program, "-plaintext", *args, stdout=PIPE, stderr=PIPE
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), err.decode()


class TestGrpcurl:
    async def test_lists_the_services(self, address):
        _, listed, _ = await grpcurl(address, "list")
        names = ["agents.v1.Agent", "memory.v1.Memory", "router.v1.Router", "tools.v1.Tool"]
        assert {f"astromesh.{name}Service" for name in names} < set(listed.split())

    async def test_describes_them(self, address):
        _, described, _ = await grpcurl(address, "describe", f"{AGENTS}.RunAgent")
        assert "rpc RunAgent ( .astromesh.agents.v1.RunAgentRequest )" in described

    async def test_calls_them(self, address, an_agent):
        helper = await an_agent(Reply(("Good day",)))
        body = json.dumps({"agent": helper.name, "query": "hello?"})
        _, answer, _ = await grpcurl("-d", body, address, f"{AGENTS}/RunAgent")
        assert json.loads(answer)["answer"] == "Good day"

    async def test_streams(self, address, an_agent):
        helper = await an_agent(Reply(("Good ", "day")))
        body = json.dumps({"agent": helper.name, "query": "hello?"})
        _, answer, _ = await grpcurl("-d", body, address, f"{AGENTS}/StreamAgent")
        assert '"text": "Good "' in answer
        assert '"completed"' in answer

    async def test_shows_errors_with_their_details(self, address):
        body = json.dumps({"agent": "nobody", "query": "hello?"})
        code, _, told = await grpcurl("-d", body, address, f"{AGENTS}/RunAgent")
        assert code != 0
        assert all(part in told for part in ("NotFound", "ErrorInfo", "nobody"))
