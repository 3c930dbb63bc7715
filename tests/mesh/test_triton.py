"""A real Triton behind a mesh, reached by the mesh's own callers over gRPC."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from math import isclose, sqrt

import grpc
import pytest
import yaml
from astromesh.agents.v1 import agent_service_pb2 as agents
from astromesh.agents.v1 import agent_service_pb2_grpc as agents_grpc
from astromesh.agents.v1 import run_pb2
from astromesh.router.v1 import candidate_pb2, texts_pb2
from astromesh.router.v1 import provider_pb2 as models
from astromesh.router.v1 import router_service_pb2_grpc as models_grpc

from tests.mesh.mesh_process import MeshProcess, mesh_process
from tests.patience import PATIENCE
from tests.running import write_agents
from tests.triton import server as triton_server

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(600)]


def helper(name: str, **parameters) -> dict:
    primary = {"provider": "gpu", "model": "words", "parameters": parameters}
    return {
        "apiVersion": "astromesh/v1",
        "kind": "Agent",
        "metadata": {"name": name},
        "spec": {"model": {"primary": primary}},
    }


def providers(endpoint: str) -> str:
    declared = {
        "gpu": {
            "type": "triton",
            "endpoint": endpoint,
            "models": ["words", "minilm", "overlap"],
            "health_check_interval": 0.2,
            "options": {"chat_template": "{{ messages[-1].content }}"},
        }
    }
    return yaml.safe_dump(
        {
            "apiVersion": "astromesh/v1",
            "kind": "ProviderConfig",
            "metadata": {"name": "providers"},
            "spec": {"providers": declared},
        }
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[triton_server.Triton]:
    folder = tmp_path_factory.mktemp("triton")
    with triton_server.triton(folder, "words", "minilm", "overlap") as started:
        yield started


@pytest.fixture(scope="module")
def mesh(server, tmp_path_factory) -> Iterator[MeshProcess]:
    folder = tmp_path_factory.mktemp("mesh")
    config = write_agents(
        folder,
        helper("echo"),
        helper("slow", hang_after=1, id="slow"),
        helper("short", max_tokens=2),
    )
    (config / "providers.yaml").write_text(providers(server.endpoint))
    with mesh_process(folder) as started:
        yield started


@pytest.fixture
async def channel(mesh) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(mesh.address) as direct:
        yield direct


@pytest.fixture
def runs(channel) -> agents_grpc.AgentServiceStub:
    return agents_grpc.AgentServiceStub(channel)


@pytest.fixture
def router(channel) -> models_grpc.RouterServiceStub:
    return models_grpc.RouterServiceStub(channel)


def candidate(model: str) -> candidate_pb2.ModelCandidate:
    return candidate_pb2.ModelCandidate(provider="gpu", model=model)


async def healthy(
    router: models_grpc.RouterServiceStub, wanted: bool, detail: str = ""
) -> models.Provider:
    """Returns once ListProviders says so."""
    async with asyncio.timeout(PATIENCE):
        while True:
            (found,) = (await router.ListProviders(models.ListProvidersRequest())).providers
            if found.HasField("healthy") and found.healthy is wanted and detail in found.detail:
                return found
            await asyncio.sleep(0.05)


class TestAnAgent:
    async def test_answers(self, runs):
        run = await runs.RunAgent(agents.RunAgentRequest(agent="echo", query="one two three"))
        assert (run.state, run.answer) == (run_pb2.RUN_STATE_COMPLETED, "one two three")
        assert (run.usage.prompt_tokens, run.usage.completion_tokens) == (3, 3)
        assert [(used.provider, used.model) for used in run.model_usage] == [("gpu", "words")]

    async def test_streams_word_by_word(self, runs):
        call = runs.StreamAgent(agents.StreamAgentRequest(agent="echo", query="one two three"))
        events = [event async for event in call]
        said = [event.text_delta.text for event in events if event.HasField("text_delta")]
        assert said == ["one", " two", " three"]
        assert events[-1].completed.answer == "one two three"

    async def test_is_held_to_its_parameters(self, runs):
        run = await runs.RunAgent(agents.RunAgentRequest(agent="short", query="one two three"))
        assert run.answer == "one two"

    async def test_whose_caller_leaves_ends_the_model_s_work(self, server, runs):
        call = runs.StreamAgent(agents.StreamAgentRequest(agent="slow", query="one two three"))
        async for event in call:
            if event.HasField("text_delta"):
                break
        call.cancel()
        async with asyncio.timeout(PATIENCE):
            while "slow cancelled after 1" not in server.words():  # noqa: ASYNC110  # a process
                await asyncio.sleep(0.01)


class TestTexts:
    async def test_are_embedded(self, router):
        texts = ("A cat sits.", "Rates rose.")
        asked = texts_pb2.EmbedRequest(texts=texts, candidates=[candidate("minilm")])
        found = await router.Embed(asked)
        assert (found.provider, found.model, len(found.embeddings)) == ("gpu", "minilm", 2)
        for each in found.embeddings:
            assert len(each.values) == 384
            assert isclose(sqrt(sum(x * x for x in each.values)), 1, abs_tol=1e-5)

    async def test_are_ranked(self, router):
        documents = ("tea", "red wine", "red")
        asked = texts_pb2.RerankRequest(
            query="red wine", documents=documents, candidates=[candidate("overlap")]
        )
        found = await router.Rerank(asked)
        assert [documents[each.index] for each in found.results] == ["red wine", "red", "tea"]

    async def test_of_a_model_that_is_not_there_are_refused(self, router):
        asked = texts_pb2.EmbedRequest(texts=["a"], candidates=[candidate("nobody")])
        with pytest.raises(grpc.aio.AioRpcError, match="'nobody' is not found") as caught:
            await router.Embed(asked)
        assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION


class TestTheProvider:
    async def test_says_of_its_models_what_they_can(self, router):
        await healthy(router, True)
        found = (await router.ListModels(models.ListModelsRequest())).models
        assert [(each.model, each.tools, each.vision) for each in found] == [
            ("minilm", False, False),
            ("overlap", False, False),
            ("words", False, False),
        ]

    async def test_is_unwell_while_its_server_is_dead_and_well_when_it_is_back(
        self, server, runs, router
    ):
        await healthy(router, True)
        await asyncio.to_thread(server.kill)
        await healthy(router, False, "Connection refused")
        await asyncio.to_thread(server.start)
        await healthy(router, True)
        run = await runs.RunAgent(agents.RunAgentRequest(agent="echo", query="again"))
        assert run.answer == "again"
