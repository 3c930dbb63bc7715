"""Every type of provider over HTTP, declared in YAML, used through the ports of a started mesh."""

import asyncio
import json

import grpc
import pytest
import pytest_asyncio
from astromesh.agents.v1 import agent_service_pb2 as agents_pb
from astromesh.agents.v1 import run_pb2
from astromesh.common.v1 import chat_pb2
from astromesh.router.v1 import completion_pb2 as pb
from astromesh.router.v1 import provider_pb2
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.mesh.providers_fixture import DECLARED, Providers, mesh_with_every_provider
from tests.patience import PATIENCE
from tests.running import agent
from tests.scripted import llamacpp_server, tgi_server, vllm_server
from tests.scripted.http_server import Call, Reply

pytestmark = pytest.mark.asyncio(loop_scope="module")

every = pytest.mark.parametrize("name", [name for name in DECLARED if name != "blind"])
HELLO = [{"role": "ROLE_USER", "text": "hello"}]
SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}}
IN_FORM = {"name": "answer", "schema": SCHEMA, "strict": False}
RESPONSE_FORMAT = {"response_format": {"type": "json_schema", "json_schema": IN_FORM}}
AGE = Reply(pieces=('{"age":', "4}"))
KEY = {
    "openai": ("authorization", "Bearer key-of-openai"),
    "azure": ("api-key", "key-of-azure"),
    "azure-dated": ("api-key", "key-of-azure"),
}
PATH = {
    "azure": "/openai/v1/chat/completions",
    "azure-dated": "/openai/deployments/m/chat/completions?api-version=2024-10-21",
    "ollama": "/api/chat",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory):
    async with mesh_with_every_provider(tmp_path_factory.mktemp("mesh")) as providers:
        yield providers


def chat(name: str, messages=HELLO, **more):
    return {"messages": messages, "candidates": [{"provider": name}], **more}


def request(name: str, **more) -> pb.CompleteRequest:
    return json_format.ParseDict(chat(name, **more), pb.CompleteRequest())


async def lines(mesh: Providers, name: str):
    """A chat streamed over REST."""
    path = "/v1/router:streamComplete"
    async with mesh.http.stream("POST", path, json=chat(name)) as answer:
        assert answer.status_code == 200, await answer.aread()
        return [json.loads(line) async for line in answer.aiter_lines() if line]


class TestAnAgent:
    @every
    async def test_answers(self, mesh, name):
        mesh.scripted(name, Reply(("Good ", "day"), prompt_tokens=11))
        run = await mesh.agents.RunAgent(agents_pb.RunAgentRequest(agent=name, query="hello"))
        assert (run.state, run.answer) == (run_pb2.RUN_STATE_COMPLETED, "Good day")
        assert [(each.provider, each.model) for each in run.model_usage] == [(name, "m")]
        assert run.usage.prompt_tokens == 11

    @every
    async def test_calls_tools_and_tells_the_model_what_came_of_it(self, mesh, name):
        sum_of = Call("calculator", '{"expression": "2+3"}')
        server = mesh.scripted(name, Reply((), calls=[sum_of]), Reply(("It is 5",)))
        run = await mesh.agents.RunAgent(agents_pb.RunAgentRequest(agent=name, query="2+3?"))
        assert run.answer == "It is 5"
        first, second = (each.body for each in server.requests)
        assert first["tools"][0]["function"]["name"] == "calculator"
        assert (second["messages"][-1]["role"], second["messages"][-1]["content"]) == ("tool", "5")

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("openai", {"max_completion_tokens": 50, "repetition_penalty": 1.1}),
            ("compatible", {"max_tokens": 50, "repetition_penalty": 1.1}),
            ("azure", {"max_completion_tokens": 50, "repetition_penalty": 1.1}),
            ("azure-dated", {"max_tokens": 50, "repetition_penalty": 1.1}),
            ("vllm", {"max_tokens": 50, "repetition_penalty": 1.1}),
            ("llamacpp", {"max_tokens": 50, "repeat_penalty": 1.1}),
            ("tgi", {"max_tokens": 50, "presence_penalty": -0.9}),
            ("ollama", {"options": {"num_predict": 50, "repeat_penalty": 1.1}}),
        ],
    )
    async def test_samples_in_the_words_of_its_provider(self, mesh, name, words):
        server = mesh.scripted(name)
        await mesh.agents.RunAgent(agents_pb.RunAgentRequest(agent=name, query="hello"))
        body = server.requests[0].body
        known = {*words, "max_tokens", "repetition_penalty"}
        assert {key: body[key] for key in known if key in body} == words

    @pytest.mark.parametrize("form", ["v1", "dated"])
    async def test_may_name_azure_itself_with_an_endpoint_and_a_key(self, mesh, form):
        server = mesh.scripted("azure")
        query = "?api-version=2024-10-21" if form == "dated" else ""
        model = {"provider": "azure_openai", "model": "my-gpt", "api_key": "own"}
        named = agent(f"on-azure-{form}", "")
        named["spec"]["model"] = {"primary": {**model, "endpoint": server.endpoint + query}}
        assert (await mesh.http.post("/v1/agents", json=named)).status_code == 200
        path = f"/v1/agents/on-azure-{form}:run"
        assert (await mesh.http.post(path, json={"query": "hi"})).json()["answer"] == "Hello there"
        dated = "/openai/deployments/my-gpt/chat/completions?api-version=2024-10-21"
        assert server.requests[0].path == (dated if form == "dated" else PATH["azure"])
        assert server.requests[0].headers["api-key"] == "own"


class TestACompletion:
    @every
    async def test_comes_over_grpc(self, mesh, name):
        server = mesh.scripted(name, Reply(("Good ", "day"), completion_tokens=2))
        answer = await mesh.router.Complete(request(name))
        assert (answer.message.text, answer.finish.provider) == ("Good day", name)
        assert answer.finish.usage.completion_tokens == 2
        assert server.requests[0].path == PATH.get(name, "/v1/chat/completions")

    @every
    async def test_comes_over_rest(self, mesh, name):
        mesh.scripted(name, Reply(("Good ", "day")))
        answer = await mesh.http.post("/v1/router:complete", json=chat(name))
        assert answer.json()["message"]["text"] == "Good day"

    @every
    async def test_is_streamed_over_grpc(self, mesh, name):
        mesh.scripted(name, Reply(("Good ", "day")))
        call = mesh.router.StreamComplete(
            json_format.ParseDict(chat(name), pb.StreamCompleteRequest())
        )
        steps = [step async for step in call]
        assert [step.text for step in steps[:-1]] == ["Good ", "day"]
        assert steps[-1].finish.provider == name

    @every
    async def test_is_streamed_over_rest(self, mesh, name):
        mesh.scripted(name, Reply(("Good ", "day")))
        *pieces, last = await lines(mesh, name)
        assert [piece["text"] for piece in pieces] == ["Good ", "day"]
        assert last["finish"]["provider"] == name

    @every
    async def test_has_the_key_of_its_provider(self, mesh, name):
        server = mesh.scripted(name)
        await mesh.router.Complete(request(name))
        header, key = KEY.get(name, ("authorization", "Bearer key-of-ours"))
        assert server.requests[0].headers[header] == key

    @every
    async def test_wants_a_tool_called(self, mesh, name):
        call = Call("weather", '{"city":"Rome"}')
        server = mesh.scripted(name, Reply((), calls=[call]))
        parameters = {"type": "object", "properties": {"city": {"type": "string"}}}
        tool = {"name": "weather", "description": "Tells the weather", "parameters": parameters}
        answer = await mesh.router.Complete(request(name, tools=[tool]))
        assert answer.finish.reason == chat_pb2.FINISH_REASON_TOOL_CALLS
        (wanted,) = answer.finish.tool_calls
        assert (wanted.name, json.loads(wanted.arguments)) == ("weather", {"city": "Rome"})
        assert server.requests[0].body["tools"][0] == {"type": "function", "function": tool}

    @every
    async def test_takes_a_picture(self, mesh, name):
        server = mesh.scripted(name)
        parts = [{"text": "what?"}, {"image": {"data": "cG5n", "media_type": "image/png"}}]
        await mesh.router.Complete(request(name, messages=[{"role": "ROLE_USER", "parts": parts}]))
        said = server.requests[0].body["messages"][0]
        url = {"type": "image_url", "image_url": {"url": "data:image/png;base64,cG5n"}}
        assert (said.get("images") == ["cG5n"]) or said["content"][1] == url

    @pytest.mark.parametrize(
        ("name", "form"),
        [
            *((name, RESPONSE_FORMAT) for name in ("openai", "compatible", "azure", "azure-dated")),
            *((name, RESPONSE_FORMAT) for name in ("vllm", "llamacpp")),
            ("tgi", {"response_format": {"type": "json", "value": SCHEMA}}),
            ("ollama", {"format": SCHEMA}),
        ],
    )
    async def test_is_asked_to_keep_to_a_schema(self, mesh, name, form):
        server = mesh.scripted(name, AGE)
        answer = await mesh.router.Complete(request(name, output_schema=SCHEMA))
        assert json.loads(answer.message.text) == {"age": 4}
        assert form.items() <= server.requests[0].body.items()

    @pytest.mark.parametrize("name", ["azure", "azure-dated"])
    async def test_that_azure_s_content_filter_stops_says_so(self, mesh, name):
        mesh.scripted(name, Reply(status=400, error="filtered", code="content_filter"))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.router.Complete(request(name))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert reason(caught.value) == "CONTENT_FILTERED"
        answer = await mesh.http.post("/v1/router:complete", json=chat(name))
        assert answer.status_code == 400
        assert "content filter (violence)" in answer.json()["message"]


class TestWhatServersTell:
    async def models(self, mesh):
        listed = (await mesh.router.ListModels(provider_pb2.ListModelsRequest())).models
        return {each.provider: each for each in listed}

    async def well(self, mesh):
        """The providers, as soon as each of them has been asked how it is."""
        async with asyncio.timeout(PATIENCE):
            while True:
                listed = (
                    await mesh.router.ListProviders(provider_pb2.ListProvidersRequest())
                ).providers
                if all(each.healthy for each in listed):
                    return {each.name for each in listed}
                await asyncio.sleep(0.05)

    async def test_all_are_well(self, mesh):
        assert await self.well(mesh) >= set(DECLARED)  # and types that agents named

    async def test_context_windows_are_learnt(self, mesh):
        await self.well(mesh)
        told = await self.models(mesh)
        assert {
            name: each.context_window for name, each in told.items() if each.context_window
        } == {
            "vllm": vllm_server.WINDOW,
            "llamacpp": llamacpp_server.WINDOW,
            "blind": llamacpp_server.WINDOW,
            "tgi": tgi_server.WINDOW,
        }

    async def test_a_picture_is_refused_before_a_model_is_asked_that_sees_none(self, mesh):
        await self.well(mesh)
        server = mesh.scripted("blind")
        parts = [{"image": {"data": "cG5n"}}]
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await mesh.router.Complete(
                request("blind", messages=[{"role": "ROLE_USER", "parts": parts}])
            )
        assert reason(caught.value) == "MODEL_CANNOT"
        assert server.requests == []

    @pytest.mark.parametrize("name", ["vllm", "llamacpp", "tgi"])
    async def test_tokens_are_counted_by_the_server(self, mesh, name):
        mesh.scripted(name, Reply(prompt_tokens=17))
        body = {"candidate": {"provider": name}, "messages": HELLO}
        counted = await mesh.router.CountTokens(
            json_format.ParseDict(body, pb.CountTokensRequest())
        )
        assert (counted.tokens, counted.exact, counted.provider) == (17, True, name)
        over_rest = await mesh.http.post("/v1/router:countTokens", json=body)
        assert over_rest.json()["tokens"] == 17


def reason(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return info.reason
