"""A model in a folder, declared in YAML, used through the ports of a started mesh.

The model is a small one that the test builds; what it says is known (tiny_causal.py).
"""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import grpc
import httpx
import psutil
import pytest
import pytest_asyncio
import yaml
from astromesh.agents.v1 import agent_service_pb2 as agents_pb
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from astromesh.agents.v1 import run_pb2
from astromesh.router.v1 import completion_pb2 as pb
from astromesh.router.v1 import provider_pb2
from astromesh.router.v1 import router_service_pb2_grpc as router_grpc
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from servers.router.adapters.genai.process import WORKER
from tests.contract.onnx_fixture import PLAIN
from tests.contract.tiny_causal import build
from tests.mesh.mesh_process import MeshProcess, gone, mesh_process
from tests.patience import PATIENCE

pytestmark = pytest.mark.asyncio(loop_scope="module")

COUNTED = "one two three four five"


@dataclass(frozen=True)
class Running:
    channel: grpc.aio.Channel
    http: httpx.AsyncClient

    @property
    def agents(self) -> agents_grpc.AgentServiceStub:
        return agents_grpc.AgentServiceStub(self.channel)

    @property
    def router(self) -> router_grpc.RouterServiceStub:
        return router_grpc.RouterServiceStub(self.channel)


def workers(mesh: MeshProcess) -> list[psutil.Process]:
    """The processes that compute."""
    return [each for each in mesh.family() if WORKER in each.cmdline()]


def declare(folder, models) -> None:
    """Providers of models in folders, and an agent on the first of them."""
    providers = {
        "tiny": {"type": "onnx", "endpoint": str(models / "tiny"), "models": ["tiny-1"]},
        "alone": {
            "type": "onnxruntime",
            "endpoint": str(models / "tiny"),
            "options": {"parallel": 1, "device": "cpu", "threads": 1},
        },
        "plain": {"type": "onnx", "endpoint": str(models / "plain")},
        "missing": {"type": "onnx", "endpoint": str(models / "nowhere")},
    }
    spec = {"model": {"primary": {"provider": "tiny"}}, "tools": ["calculator"]}
    (folder / "config" / "agents").mkdir(parents=True)
    for path, kind, name, written in (
        ("providers.yaml", "ProviderConfig", "providers", {"providers": providers}),
        ("agents/teller.agent.yaml", "Agent", "teller", spec),
    ):
        head = {"apiVersion": "astromesh/v1", "kind": kind, "metadata": {"name": name}}
        (folder / "config" / path).write_text(yaml.safe_dump({**head, "spec": written}))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory) -> AsyncIterator[Running]:
    models, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("mesh")
    build(models / "tiny", window=4096)
    build(models / "plain", window=4096, template=PLAIN)
    declare(folder, models)
    async with AsyncExitStack() as stack:
        mesh = stack.enter_context(mesh_process(folder))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(mesh.address))
        client = httpx.AsyncClient(base_url=mesh.url, timeout=PATIENCE, trust_env=False)
        yield Running(channel, await stack.enter_async_context(client))


def chat(word: str, provider: str = "tiny", **more) -> dict:
    messages = [{"role": "ROLE_USER", "text": word}]
    return {"messages": messages, "candidates": [{"provider": provider}], **more}


def completion(*args, **more) -> pb.CompleteRequest:
    return json_format.ParseDict(chat(*args, **more), pb.CompleteRequest())


def stream_of(*args, **more) -> pb.StreamCompleteRequest:
    return json_format.ParseDict(chat(*args, **more), pb.StreamCompleteRequest())


def reason(error: grpc.aio.AioRpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    rpc_status.from_call(error).details[0].Unpack(info)
    return info.reason


class TestAnAgent:
    async def test_answers(self, running):
        request = agents_pb.RunAgentRequest(agent="teller", query="count")
        run = await running.agents.RunAgent(request)
        assert (run.state, run.answer) == (run_pb2.RUN_STATE_COMPLETED, COUNTED)
        assert [(each.provider, each.model) for each in run.model_usage] == [("tiny", "tiny-1")]
        assert (run.usage.completion_tokens, run.usage.cost_usd) == (6, 0.0)

    async def test_is_heard_token_by_token(self, running):
        request = agents_pb.StreamAgentRequest(agent="teller", query="greet")
        events = [event async for event in running.agents.StreamAgent(request)]
        pieces = [each.text_delta.text for each in events if each.HasField("text_delta")]
        assert pieces == ["Good", " morning", ",", " Ada", "."]
        assert events[-1].completed.answer == "Good morning, Ada."

    async def test_calls_tools_in_the_model_s_own_words(self, running):
        request = agents_pb.RunAgentRequest(agent="teller", query="reckon")
        run = await running.agents.RunAgent(request)
        assert (run.state, run.answer) == (run_pb2.RUN_STATE_COMPLETED, "It is five")
        assert run.model_usage[0].calls == 2

    async def test_may_be_reached_over_rest(self, running):
        answer = await running.http.post("/v1/agents/teller:run", json={"query": "count"})
        assert answer.json()["answer"] == COUNTED


class TestACompletion:
    @pytest.mark.parametrize("provider", ["tiny", "alone"])
    async def test_comes_over_grpc(self, running, provider):
        answer = await running.router.Complete(completion("count", provider))
        assert (answer.message.text, answer.finish.provider) == (COUNTED, provider)
        assert answer.finish.usage.prompt_tokens == 4

    async def test_is_streamed(self, running):
        steps = [step async for step in running.router.StreamComplete(stream_of("count"))]
        assert [step.text for step in steps[:-1]] == ["one", " two", " three", " four", " five"]
        assert steps[-1].finish.usage.completion_tokens == 6

    async def test_keeps_to_a_schema(self, running):
        age = {"type": "integer", "minimum": 0, "maximum": 9}
        schema = {"type": "object", "properties": {"age": age}, "required": ["age"]}
        asked = completion("count", output_schema=schema | {"additionalProperties": False})
        assert json.loads((await running.router.Complete(asked)).message.text).keys() == {"age"}

    async def test_of_a_model_without_a_place_for_tools_calls_them_all_the_same(self, running):
        text = {"type": "object", "properties": {"expression": {"type": "string"}}}
        tool = {"name": "calculator", "description": "Works it out.", "parameters": text}
        answer = await running.router.Complete(completion("emulate", "plain", tools=[tool]))
        (call,) = answer.finish.tool_calls
        assert (call.name, json.loads(call.arguments)) == ("calculator", {"expression": "2+3"})
        assert answer.finish.emulated_tools

    async def test_is_sampled_as_the_request_says(self, running):
        sampling = {"max_tokens": 3, "stop": [" two"], "extra": {"repetition_penalty": 1.1}}
        answer = await running.router.Complete(completion("count", sampling=sampling))
        assert answer.message.text == "one"

    async def test_with_a_slip_in_it_is_refused(self, running):
        with pytest.raises(grpc.aio.AioRpcError, match="did you mean 'top_k'") as caught:
            await running.router.Complete(completion("count", sampling={"extra": {"topk": 3}}))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_that_is_cancelled_leaves_the_place_to_the_next(self, running):
        for _ in range(3):
            call = running.router.StreamComplete(
                stream_of("sing", "alone", sampling={"max_tokens": 4000})
            )
            await call.read()
            call.cancel()
        answer = await running.router.Complete(completion("greet", "alone"))
        assert answer.message.text == "Good morning, Ada."

    async def test_that_is_longer_than_the_window_is_refused(self, running):
        with pytest.raises(grpc.aio.AioRpcError, match=r"4503 tokens.*window 4096") as caught:
            await running.router.Complete(completion("." * 4500))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_of_a_folder_that_is_not_there_says_so(self, running):
        with pytest.raises(grpc.aio.AioRpcError, match="nowhere") as caught:
            await running.router.Complete(completion("count", "missing"))
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert reason(caught.value) == "MODEL_MISSING"

    async def test_of_a_folder_that_the_caller_names_is_refused(self, running):
        asked = completion("count")
        asked.candidates[0].endpoint = "/etc"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await running.router.Complete(asked)
        assert reason(caught.value) == "FOLDER_DENIED"


class TestWhatIsKnown:
    async def test_tokens_are_counted_by_the_model_s_own_tokenizer(self, running):
        body = {"candidate": {"provider": "tiny"}, "messages": chat("count")["messages"]}
        counted = await running.router.CountTokens(
            json_format.ParseDict(body, pb.CountTokensRequest())
        )
        assert (counted.tokens, counted.exact, counted.provider) == (4, True, "tiny")
        over_rest = await running.http.post("/v1/router:countTokens", json=body)
        assert over_rest.json()["tokens"] == 4

    async def test_models_are_listed_with_what_they_can_do(self, running):
        listed = (await running.router.ListModels(provider_pb2.ListModelsRequest())).models
        tiny = next(each for each in listed if each.provider == "tiny")
        assert (tiny.model, tiny.context_window) == ("tiny-1", 4096)
        assert (tiny.tools, tiny.vision, tiny.json_schema) == (True, False, True)
        assert (tiny.input_price, tiny.output_price) == (0.0, 0.0)
        assert any(each.provider == "missing" for each in listed)  # though it can't answer


async def test_the_mesh_takes_its_workers_along(tmp_path_factory):
    models, folder = tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("mesh")
    build(models / "tiny")
    declare(folder, models)
    with mesh_process(folder) as mesh:
        assert workers(mesh) == []  # nobody has asked yet
        async with grpc.aio.insecure_channel(mesh.address) as channel:
            await router_grpc.RouterServiceStub(channel).Complete(completion("count"))
        (worker,) = workers(mesh)
        mesh.signal(signal.SIGTERM)
        await mesh.ended()
        assert await asyncio.to_thread(gone, [worker])
