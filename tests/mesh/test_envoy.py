"""What the public port promises, seen through a real Envoy before a scripted AgentService."""

import asyncio
import json

import grpc
import httpx
import pytest
import pytest_asyncio
from astromesh.agents.v1 import agent_service_pb2 as pb
from astromesh.agents.v1 import run_event_pb2, run_pb2
from google.rpc import error_details_pb2, status_pb2

from tests.mesh.edge_bytes import asked_by_hand, event, framed, frames, packed
from tests.mesh.edge_fixture import END, Reached, reached_through_envoy, serving, text
from tests.patience import PROMPTLY

pytestmark = pytest.mark.asyncio(loop_scope="module")
RUN = "/v1/agents/a:run"
STREAM = "/v1/agents/a:stream"
SSE = {"accept": "text/event-stream"}
HELLO = {"query": "hello"}
SERVICE = "/astromesh.agents.v1.AgentService"
WEB_PAGE = {
    "content-type": "application/grpc-web+proto",
    "x-grpc-web": "1",
    "origin": "http://localhost:3000",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def through_envoy(tmp_path_factory):
    async with reached_through_envoy(tmp_path_factory.mktemp("state")) as reached:
        yield reached


@pytest_asyncio.fixture(loop_scope="module")
async def mesh(through_envoy: Reached):
    through_envoy.agents.reset()
    return through_envoy


def refused(answer: httpx.Response) -> tuple[int, int, str]:
    """HTTP status, code and reason; the shape of every error is checked on the way."""
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert set(body) == {"code", "message", "details"}
    assert body["message"]
    info = body["details"][0]
    assert info["@type"] == "type.googleapis.com/google.rpc.ErrorInfo"
    assert info["domain"] == "astromesh"
    return answer.status_code, body["code"], info["reason"]


class TestRest:
    async def test_a_body_and_a_path_become_one_request(self, mesh):
        mesh.agents.say(run_pb2.Run(run_id="r1"))
        await mesh.http.post(RUN, json={"query": "hello", "session_id": "s1"})
        expected = pb.RunAgentRequest(agent="a", query="hello", session_id="s1")
        assert mesh.agents.asked[0].request == expected

    async def test_answers_have_snake_case_names_and_enums_by_name(self, mesh):
        mesh.agents.say(run_pb2.Run(run_id="r1", state=run_pb2.RUN_STATE_COMPLETED))
        answer = (await mesh.http.post(RUN, json=HELLO)).json()
        assert (answer["run_id"], answer["state"]) == ("r1", "RUN_STATE_COMPLETED")

    async def test_fields_without_a_value_are_there_too(self, mesh):
        assert (await mesh.http.get("/v1/runs")).json() == {"runs": [], "next_page_token": ""}

    async def test_curl_needs_no_content_type(self, mesh):
        mesh.agents.say(run_pb2.Run(run_id="r1"))
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = await mesh.http.post(RUN, content='{"query": "hello"}', headers=form)
        assert answer.status_code == 200

    async def test_an_error_has_its_details(self, mesh):
        info = error_details_pb2.ErrorInfo(reason="QUERY_EMPTY", domain="astromesh")
        fault = error_details_pb2.BadRequest.FieldViolation(field="query", description="is empty")
        bad = error_details_pb2.BadRequest(field_violations=[fault])
        mesh.agents.say(status_pb2.Status(code=3, message="empty query", details=packed(info, bad)))
        answer = await mesh.http.post(RUN, json=HELLO)
        assert refused(answer) == (400, 3, "QUERY_EMPTY")
        violation = answer.json()["details"][1]["field_violations"][0]
        assert (violation["field"], violation["description"]) == ("query", "is empty")

    async def test_a_deadline_is_said_with_grpc_timeout(self, mesh):
        mesh.agents.say(run_pb2.Run())
        await mesh.http.post(RUN, json=HELLO, headers={"grpc-timeout": "30S"})
        assert 0 < mesh.agents.asked[0].seconds_left <= 30

    async def test_without_a_deadline_there_is_none(self, mesh):
        mesh.agents.say(run_pb2.Run())
        await mesh.http.post(RUN, json=HELLO)
        assert mesh.agents.asked[0].seconds_left is None

    async def test_a_deadline_that_passes_is_a_504(self, mesh):
        answer = await mesh.http.post(RUN, json=HELLO, headers={"grpc-timeout": "100m"})
        assert (answer.status_code, answer.json()["code"]) == (504, 4)

    async def test_an_answer_of_many_megabytes_passes(self, mesh):
        mesh.agents.say(run_pb2.Run(answer="x" * 3_000_000))
        assert len((await mesh.http.post(RUN, json=HELLO)).json()["answer"]) == 3_000_000


class TestAStream:
    async def test_is_json_lines_that_arrive_one_by_one(self, mesh):
        mesh.agents.say(text("a"))
        async with mesh.http.stream("POST", STREAM, json=HELLO) as answer:
            lines = answer.aiter_lines()
            assert json.loads(await anext(lines))["text_delta"]["text"] == "a"
            mesh.agents.say(text("b"))
            assert json.loads(await anext(lines))["text_delta"]["text"] == "b"
            mesh.agents.say(END)
            assert [line async for line in lines] == []

    async def test_is_server_sent_events_for_who_accepts_them(self, mesh):
        mesh.agents.say(text("a"))
        async with mesh.http.stream("POST", STREAM, json=HELLO, headers=SSE) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            lines = answer.aiter_lines()
            assert event(await anext(lines))["text_delta"]["text"] == "a"
            assert await anext(lines) == ""
            mesh.agents.say(text("b"))
            assert event(await anext(lines))["text_delta"]["text"] == "b"
            mesh.agents.say(END)
            assert [line async for line in lines] == [""]

    async def test_is_open_to_a_browsers_event_source(self, mesh):
        mesh.agents.say(text("a", sequence=8), END)
        page = {**SSE, "origin": "http://localhost:3000", "cache-control": "no-cache"}
        answer = await mesh.http.get("/v1/runs/r1/events?after_sequence=7", headers=page)
        assert event(answer.text.strip())["sequence"] == 8
        assert mesh.agents.asked[0].request.after_sequence == 7
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"

    async def test_shows_of_a_payload_only_the_one_that_is_set(self, mesh):
        mesh.agents.say(text("a"), END)
        (line,) = (await mesh.http.post(STREAM, json=HELLO)).text.splitlines()
        assert set(json.loads(line)) == {"run_id", "sequence", "text_delta"}

    async def test_that_is_refused_is_an_error_like_any_other(self, mesh):
        info = error_details_pb2.ErrorInfo(reason="RUN_UNKNOWN", domain="astromesh")
        mesh.agents.say(status_pb2.Status(code=5, message="no such run", details=packed(info)))
        answer = await mesh.http.get("/v1/runs/r1/events", headers=SSE)
        assert refused(answer) == (404, 5, "RUN_UNKNOWN")

    async def test_that_breaks_later_says_so_in_the_trailers(self, mesh):
        mesh.agents.say(text("a"), status_pb2.Status(code=10, message="cut"))
        answer = await asked_by_hand(mesh, f"POST {STREAM}", body='{"query":"hello"}')
        assert b"text_delta" in answer
        assert b"grpc-status: 10\r\ngrpc-message: cut" in answer

    async def test_whose_reader_leaves_is_cancelled(self, mesh):
        mesh.agents.say(text("a"))
        async with mesh.http.stream("POST", STREAM, json=HELLO) as answer:
            await anext(answer.aiter_lines())
        await asyncio.wait_for(mesh.agents.left.wait(), PROMPTLY)

    async def test_whose_reader_does_not_read_makes_the_service_wait(self, mesh):
        total = 800
        mesh.agents.say(*[text("x" * 50_000)] * total, END)
        async with mesh.http.stream("POST", STREAM, json=HELLO) as answer:
            await no_more_progress(mesh)
            assert mesh.agents.sent < total / 2
            assert len([line async for line in answer.aiter_lines()]) == total


class TestGrpc:
    async def test_passes_as_it_is(self, mesh):
        mesh.agents.say(run_pb2.Run(run_id="r1"))
        run = await mesh.grpc.RunAgent(pb.RunAgentRequest(agent="a", query="hello"))
        assert run.run_id == "r1"

    async def test_talks_both_ways_at_once(self, mesh):
        call = mesh.grpc.Chat()
        for query in ("one", "two"):
            await call.write(pb.ChatRequest(query=query))
            assert (await call.read()).text_delta.text == query
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF

    async def test_gets_the_details_of_an_error(self, mesh):
        info = error_details_pb2.ErrorInfo(reason="QUERY_EMPTY", domain="astromesh")
        mesh.agents.say(status_pb2.Status(code=3, message="empty", details=packed(info)))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.grpc.RunAgent(pb.RunAgentRequest(agent="a"))
        assert "grpc-status-details-bin" in dict(caught.value.trailing_metadata())

    async def test_that_is_cancelled_is_cancelled_behind_the_edge(self, mesh):
        mesh.agents.say(text("a"))
        call = mesh.grpc.StreamAgent(pb.StreamAgentRequest(agent="a", query="hello"))
        await call.read()
        call.cancel()
        await asyncio.wait_for(mesh.agents.left.wait(), PROMPTLY)

    async def test_with_an_unknown_method_is_unimplemented(self, mesh):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.channel.unary_unary("/astromesh.agents.v1.AgentService/Nope")(b"")
        assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    async def test_from_a_web_page_elsewhere_is_refused_in_words(self, mesh):
        elsewhere = (("origin", "http://evil.example"),)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.grpc.RunAgent(pb.RunAgentRequest(agent="a"), metadata=elsewhere)
        assert caught.value.code() == grpc.StatusCode.PERMISSION_DENIED
        assert caught.value.details() == "Web pages may call the mesh from http://localhost only."


class TestGrpcWeb:
    async def test_gets_messages_and_then_the_trailers(self, mesh):
        mesh.agents.say(text("a"), text("b"), END)
        request = pb.StreamAgentRequest(agent="a", query="hello").SerializeToString()
        answer = await mesh.http.post(
            f"{SERVICE}/StreamAgent", content=framed(request), headers=WEB_PAGE
        )
        *messages, trailers = frames(answer.content)
        said = [run_event_pb2.RunEvent.FromString(body).text_delta.text for _, body in messages]
        assert said == ["a", "b"]
        assert trailers[0] == 0x80
        assert b"grpc-status:0" in trailers[1]

    async def test_may_be_used_by_pages_on_loopback(self, mesh):
        ask = {"access-control-request-method": "POST", "origin": "http://127.0.0.1:5173"}
        answer = await mesh.http.options(f"{SERVICE}/RunAgent", headers=ask)
        assert answer.headers["access-control-allow-origin"] == "http://127.0.0.1:5173"
        assert "x-grpc-web" in answer.headers["access-control-allow-headers"]

    async def test_that_is_too_large_is_refused_by_the_server(self, mesh):
        request = pb.RunAgentRequest(agent="a", query="x" * 5_000_000).SerializeToString()
        answer = await mesh.http.post(
            f"{SERVICE}/RunAgent", content=framed(request), headers=WEB_PAGE
        )
        assert answer.headers["grpc-status"] == "8"


class TestRefusals:
    async def test_an_unknown_path(self, mesh):
        assert refused(await mesh.http.get("/nope")) == (404, 5, "UNKNOWN_PATH")

    async def test_an_unknown_verb(self, mesh):
        answer = await mesh.http.post("/v1/agents/a:dance", json=HELLO)
        assert refused(answer) == (404, 5, "UNKNOWN_PATH")

    async def test_a_method_that_the_path_does_not_have(self, mesh):
        assert refused(await mesh.http.get(RUN)) == (404, 5, "UNKNOWN_PATH")

    async def test_an_unknown_query_parameter_by_name(self, mesh):
        answer = await mesh.http.get("/v1/runs?color=red")
        assert refused(answer) == (400, 3, "INVALID_REQUEST")
        assert "color" in answer.json()["message"]

    @pytest.mark.parametrize("body", ["{", "[]", "hello", '{"query": ', "\x00", '{"query": {}}'])
    async def test_what_is_no_json_of_that_shape(self, mesh, body):
        answer = await mesh.http.post(RUN, content=body)
        assert refused(answer) == (400, 3, "INVALID_REQUEST")

    async def test_a_value_of_the_wrong_type_by_field(self, mesh):
        answer = await mesh.http.post(RUN, json={"query": "hello", "context": "late"})
        assert refused(answer) == (400, 3, "INVALID_REQUEST")
        assert "context" in answer.json()["message"]

    async def test_an_agent_in_the_body_that_is_not_the_one_in_the_path(self, mesh):
        answer = await mesh.http.post(RUN, json={"query": "hello", "agent": "b"})
        assert refused(answer) == (400, 3, "INVALID_REQUEST")

    @pytest.mark.parametrize("chunked", [False, True])
    async def test_a_body_of_ten_megabytes(self, mesh, chunked):
        body = "x" * 10_000_000
        answer = await asked_by_hand(mesh, f"POST {RUN}", body, chunked)
        assert answer.startswith(b"HTTP/1.1 413")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["details"][0]["reason"] == (
            "REQUEST_TOO_LARGE"
        )

    async def test_headers_of_seventy_kilobytes(self, mesh):
        answer = await mesh.http.get("/v1/runs", headers={"x-big": "x" * 70_000})
        assert refused(answer) == (431, 8, "HEADERS_TOO_LARGE")

    async def test_a_body_that_is_no_json_by_its_own_word(self, mesh):
        xml = {"content-type": "application/xml"}
        answer = await mesh.http.post(RUN, content="<a/>", headers=xml)
        assert refused(answer) == (415, 3, "UNSUPPORTED_MEDIA_TYPE")

    async def test_a_deadline_that_is_none(self, mesh):
        answer = await mesh.http.post(RUN, json=HELLO, headers={"grpc-timeout": "soon"})
        assert refused(answer) == (400, 3, "INVALID_REQUEST")
        assert "30S" in answer.json()["message"]

    async def test_a_websocket(self, mesh):
        upgrade = {
            "connection": "upgrade",
            "upgrade": "websocket",
            "sec-websocket-version": "13",
            "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        answer = await mesh.http.get(STREAM, headers=upgrade)
        assert refused(answer) == (501, 12, "UPGRADE_NOT_SERVED")

    async def test_a_web_page_from_elsewhere(self, mesh):
        elsewhere = {"origin": "http://evil.example"}
        answer = await mesh.http.post(RUN, json=HELLO, headers=elsewhere)
        assert refused(answer) == (403, 7, "NOT_LOCAL")
        assert mesh.agents.asked == []

    async def test_a_name_that_somebody_else_gave_this_machine(self, mesh):
        answer = await mesh.http.get("/v1/runs", headers={"host": "rebound.example"})
        assert refused(answer) == (403, 7, "NOT_LOCAL")

    async def test_not_localhost_by_its_name(self, mesh):
        here = {"host": f"localhost:{mesh.edge.http_port}"}
        assert (await mesh.http.get("/v1/runs", headers=here)).status_code == 200

    async def test_what_is_no_http(self, mesh):
        answer = await asked_by_hand(mesh, "HELLO")
        assert answer.startswith(b"HTTP/1.1 400")
        assert b"INVALID_REQUEST" in answer

    async def test_leave_the_next_request_alone(self, mesh):
        await mesh.http.post(RUN, content="{")
        mesh.agents.say(run_pb2.Run(run_id="r1"))
        assert (await mesh.http.post(RUN, json=HELLO)).json()["run_id"] == "r1"


class TestHeaders:
    @pytest.mark.parametrize("name", ["x-astromesh-tenant", "x-astromesh-principal"])
    async def test_who_the_caller_says_he_is_does_not_pass(self, mesh, name):
        mesh.agents.say(run_pb2.Run(), run_pb2.Run())
        await mesh.http.post(RUN, json=HELLO, headers={name: "mallory"})
        await mesh.grpc.RunAgent(pb.RunAgentRequest(agent="a"), metadata=((name, "mallory"),))
        assert [name in asked.metadata for asked in mesh.agents.asked] == [False, False]

    async def test_a_request_gets_an_id_that_the_caller_learns(self, mesh):
        answer = await mesh.http.get("/v1/runs")
        assert answer.headers["x-request-id"] == mesh.agents.asked[0].metadata["x-request-id"]

    async def test_the_callers_own_request_id_stays(self, mesh):
        answer = await mesh.http.get("/v1/runs", headers={"x-request-id": "mine"})
        assert answer.headers["x-request-id"] == "mine"
        assert mesh.agents.asked[0].metadata["x-request-id"] == "mine"

    async def test_the_trace_goes_on(self, mesh):
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        await mesh.http.get("/v1/runs", headers={"traceparent": trace})
        assert mesh.agents.asked[0].metadata["traceparent"] == trace

    async def test_the_server_is_called_astromesh(self, mesh):
        assert (await mesh.http.get("/v1/runs")).headers["server"] == "astromesh"


async def test_a_mesh_that_is_gone_is_unavailable_for_rest_and_grpc_until_it_is_back(tmp_path):
    async with reached_through_envoy(tmp_path) as mesh:
        await mesh.server.stop(None)
        answer = await mesh.http.get("/v1/runs")
        assert refused(answer) == (503, 14, "MESH_UNREACHABLE")
        assert answer.headers["retry-after"] == "1"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.grpc.ListRuns(run_pb2.ListRunsRequest())
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
        async with serving(mesh.agents, mesh.agents.port):
            assert (await mesh.http.get("/v1/runs")).status_code == 200


async def no_more_progress(mesh: Reached) -> None:
    """Wait until the service has sent nothing for a while."""
    before = -1
    while before != mesh.agents.sent:
        before = mesh.agents.sent
        await asyncio.sleep(0.5)
