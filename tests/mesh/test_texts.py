"""Embeddings and rankings of a started mesh: over gRPC, over REST, with curl and with grpcurl."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import httpx
import pytest
import pytest_asyncio
import yaml
from astromesh.router.v1 import candidate_pb2
from astromesh.router.v1 import router_service_pb2_grpc as router_grpc
from astromesh.router.v1 import texts_pb2 as pb

from tests.mesh.mesh_process import MeshProcess, command, mesh_process
from tests.patience import PATIENCE, PROMPTLY
from tests.running import agent
from tests.scripted.azure_server import azure_server
from tests.scripted.cohere_server import cohere_server
from tests.scripted.http_server import ScriptedServer, Then, refuses
from tests.scripted.llamacpp_server import llamacpp_server
from tests.scripted.ollama_server import ollama_server
from tests.scripted.openai_server import openai_server
from tests.scripted.tei_server import tei_server
from tests.scripted.texts import Texts, score_for, tokens, vector_for
from tests.scripted.vllm_server import vllm_server

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.envoy]

ROUTER = "astromesh.router.v1.RouterService"
TEXTS = ["A cat sat on the mat.", "Grüße aus 漢字 🦊"]
QUERY = "Where does the cat sit?"
LARGE = 64 << 20  # bytes; what a client must be ready to take for large answers

SERVERS = {
    "openai": openai_server,
    "openai_compat": openai_server,
    "azure_openai": azure_server,
    "vllm": vllm_server,
    "llamacpp": llamacpp_server,
    "ollama": ollama_server,
    "tei": tei_server,
    "tei_ranks": partial(tei_server, kind="reranker"),
    "cohere": cohere_server,
}
EMBED = [name for name in SERVERS if name != "tei_ranks"]
RANK = ["vllm", "llamacpp", "tei_ranks", "cohere"]


@dataclass(frozen=True)
class Running:
    """A mesh, and the model servers that its providers.yaml names."""

    mesh: MeshProcess
    servers: dict[str, ScriptedServer]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory) -> AsyncIterator[Running]:
    folder = tmp_path_factory.mktemp("mesh")
    async with AsyncExitStack() as stack:
        servers = {
            name: await stack.enter_async_context(serve(Texts())) for name, serve in SERVERS.items()
        }
        declared = {name: _provider(name, server) for name, server in servers.items()}
        (folder / "config" / "agents").mkdir(parents=True)
        (folder / "config" / "providers.yaml").write_text(
            yaml.safe_dump(
                {
                    "apiVersion": "astromesh/v1",
                    "kind": "ProviderConfig",
                    "metadata": {"name": "providers"},
                    "spec": {"providers": declared},
                }
            )
        )
        yield Running(
            stack.enter_context(mesh_process(folder, command(folder), {"KEY": "abc"})), servers
        )


def _provider(name: str, server: ScriptedServer) -> dict:
    model = {"name": "m", "price": {"input": 2.0, "output": 0.0}}
    return {
        "type": name.removesuffix("_ranks"),
        "endpoint": server.endpoint,
        "api_key_env": "KEY",
        "models": [model, {"name": "wide", "dimensions": 384}],
    }


@pytest.fixture
def servers(running) -> dict[str, ScriptedServer]:
    for server in running.servers.values():
        server.replies[:] = [Texts()]
        server.requests.clear()
        server.asked.clear()
        server.left.clear()
    return running.servers


@pytest_asyncio.fixture(loop_scope="module", params=["direct", "envoy"])
async def router(request, running, servers):
    """The service, as gRPC clients have it."""
    mesh = running.mesh
    address = mesh.address if request.param == "direct" else mesh.url.removeprefix("http://")
    options = [("grpc.max_receive_message_length", LARGE)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        yield router_grpc.RouterServiceStub(channel)


@pytest_asyncio.fixture(loop_scope="module")
async def http(running, servers) -> AsyncIterator[httpx.AsyncClient]:
    url = running.mesh.url
    async with httpx.AsyncClient(base_url=url, timeout=PATIENCE, trust_env=False) as client:
        yield client


def named(provider: str, model: str = "m") -> list[dict[str, str]]:
    return [{"provider": provider, "model": model}]


def direction(text: str) -> list[float]:
    found = vector_for(text)
    length = sum(number * number for number in found) ** 0.5
    return [pytest.approx(number / length, abs=1e-6) for number in found]


def best_first(documents: list[str]) -> list[tuple[int, float]]:
    scores = [(at, pytest.approx(score_for(QUERY, each))) for at, each in enumerate(documents)]
    return sorted(scores, key=lambda each: -each[1].expected)


class TestOverGrpc:
    @pytest.mark.parametrize("name", EMBED)
    async def test_every_type_embeds(self, router, servers, name):
        asked = pb.EmbedRequest(
            texts=TEXTS, candidates=[candidate_pb2.ModelCandidate(**named(name)[0])]
        )
        answer = await router.Embed(asked)
        assert [list(each.values) for each in answer.embeddings] == [*map(direction, TEXTS)]
        assert answer.provider == name
        assert answer.usage.cost_usd == pytest.approx(tokens(TEXTS) * 2e-6)
        assert {"abc", "Bearer abc"} & {*servers[name].requests[0].headers.values()}

    @pytest.mark.parametrize("name", RANK)
    async def test_every_type_that_can_ranks(self, router, name):
        candidate = candidate_pb2.ModelCandidate(**named(name)[0])
        asked = pb.RerankRequest(query=QUERY, documents=TEXTS, candidates=[candidate])
        answer = await router.Rerank(asked)
        assert [(each.index, each.score) for each in answer.results] == best_first(TEXTS)
        assert answer.provider == name

    async def test_2048_vectors_of_1536_numbers_are_not_too_many(self, router):
        texts = [f"text number {number}" for number in range(2048)]
        candidate = candidate_pb2.ModelCandidate(**named("openai")[0])
        asked = pb.EmbedRequest(texts=texts, candidates=[candidate], dimensions=1536)
        answer = await router.Embed(asked, timeout=100)
        assert [len(each.values) for each in answer.embeddings] == [1536] * 2048

    async def test_a_caller_who_leaves_ends_the_provider_s_work(self, router, servers):
        servers["vllm"].replies[:] = [Texts(then=Then.HANG)]
        asked = pb.EmbedRequest(
            texts=TEXTS, candidates=[candidate_pb2.ModelCandidate(**named("vllm")[0])]
        )
        asking = router.Embed(asked)
        await asyncio.wait_for(servers["vllm"].asked.wait(), PATIENCE)
        asking.cancel()
        await asyncio.wait_for(servers["vllm"].left.wait(), PROMPTLY)

    async def test_a_deadline_ends_the_provider_s_work(self, router, servers):
        servers["cohere"].replies[:] = [Texts(then=Then.HANG)]
        candidate = candidate_pb2.ModelCandidate(**named("cohere")[0])
        asked = pb.RerankRequest(query=QUERY, documents=TEXTS, candidates=[candidate])
        for seconds in (1, 5, 25):  # one of them leaves time to ask the provider
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await router.Rerank(asked, timeout=seconds)
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            if servers["cohere"].asked.is_set():
                break
        await asyncio.wait_for(servers["cohere"].left.wait(), PROMPTLY)


class TestOverRest:
    async def posted(self, http, path, body, status=200):
        answer = await http.post(path, json=body)
        assert answer.status_code == status, answer.text
        return answer.json()

    async def test_texts_are_embedded(self, http):
        body = {"texts": TEXTS, "candidates": named("tei"), "purpose": "PURPOSE_QUERY"}
        answer = await self.posted(http, "/v1/router:embed", body)
        assert [each["values"] for each in answer["embeddings"]] == [*map(direction, TEXTS)]
        assert (answer["provider"], answer["model"]) == ("tei", "BAAI/bge-small-en-v1.5")
        assert answer["usage"]["prompt_tokens"] == tokens(TEXTS)

    async def test_documents_are_ranked(self, http):
        body = {"query": QUERY, "documents": TEXTS, "candidates": named("cohere"), "top_n": 1}
        answer = await self.posted(http, "/v1/router:rerank", body)
        (found,) = answer["results"]
        assert (found["index"], found["score"]) == best_first(TEXTS)[0]
        assert answer["usage"]["estimated"]

    async def test_without_candidates_the_embedded_model_answers(self, http):
        """It is a real one: a question is nearest to its answer."""
        cats, money = "The cat sat on the mat.", "Interest rates rose again."
        embedded = await self.posted(http, "/v1/router:embed", {"texts": [QUERY, cats, money]})
        query, near, far = (each["values"] for each in embedded["embeddings"])
        likeness = [sum(a * b for a, b in zip(query, each, strict=True)) for each in (near, far)]
        assert likeness[0] > likeness[1]
        body = {"query": QUERY, "documents": [money, cats]}
        ranked = await self.posted(http, "/v1/router:rerank", body)
        assert [each["index"] for each in ranked["results"]] == [1, 0]
        assert {embedded["provider"], ranked["provider"]} == {"onnx_embeddings"}

    async def test_many_vectors_are_not_too_many(self, http):
        texts = [f"text number {number}" for number in range(1024)]
        body = {"texts": texts, "candidates": named("openai"), "dimensions": 1024}
        answer = await self.posted(http, "/v1/router:embed", body)
        assert [len(each["values"]) for each in answer["embeddings"]] == [1024] * 1024

    async def test_another_one_answers_where_the_first_is_down(self, http, servers):
        servers["ollama"].replies[:] = [refuses(503)]
        body = {"texts": TEXTS, "candidates": [*named("ollama"), *named("vllm")]}
        assert (await self.posted(http, "/v1/router:embed", body))["provider"] == "vllm"

    @pytest.mark.parametrize(
        ("path", "body", "reason", "says"),
        [
            (":embed", {"texts": [], "candidates": named("tei")}, "INVALID_REQUEST", "no text"),
            (":embed", {"texts": ["a"] * 2049, "candidates": named("tei")}, "INVALID_REQUEST", ""),
            (":embed", {"texts": [" "], "candidates": named("tei")}, "INVALID_REQUEST", "empty"),
            (
                ":embed",
                {"texts": ["a"], "candidates": named("tei", "wide")},
                "DIMENSION_MISMATCH",
                "384",
            ),
            (
                ":embed",
                {"texts": ["a" * 600], "candidates": named("tei")},
                "PROVIDER_REFUSED",
                "Given: 600",
            ),
            (
                ":embed",
                {"texts": ["a"], "candidates": named("tei_ranks")},
                "MODEL_CANNOT",
                "no embedding model",
            ),
            (
                ":rerank",
                {"query": "q", "documents": ["a"], "candidates": named("openai")},
                "PROVIDER_UNFIT",
                "can't rerank",
            ),
            (
                ":rerank",
                {"query": "q", "documents": [], "candidates": named("cohere")},
                "INVALID_REQUEST",
                "no document",
            ),
            (
                ":complete",
                {"messages": [{"role": "ROLE_USER", "text": "hi"}], "candidates": named("cohere")},
                "PROVIDER_UNFIT",
                "can't chat",
            ),
        ],
    )
    async def test_bad_input_is_told_with_its_reason(self, http, path, body, reason, says):
        answer = await self.posted(http, "/v1/router" + path, body, 400)
        details = {each["@type"].rpartition(".")[2]: each for each in answer["details"]}
        assert details["ErrorInfo"]["reason"] == reason
        assert says in answer["message"]

    async def test_an_agent_on_a_provider_without_chats_is_refused(self, http):
        manifest = agent("embeds", "http://127.0.0.1:9/v1")
        manifest["spec"]["model"] = {"primary": {"provider": "tei", "model": "m"}}
        answer = await http.post("/v1/agents", json=manifest)
        assert answer.status_code == 400
        assert "can't chat; it can embed, rerank" in answer.text

    async def test_models_say_what_they_do(self, http):
        answer = (await http.get("/v1/router/models")).json()
        does = {each["provider"]: set(each["does"]) for each in answer["models"]}
        assert all("embed" in does[name] for name in EMBED)
        assert {name for name, each in does.items() if "rerank" in each} == {*RANK, "tei"}

    async def test_providers_without_chats_are_listed(self, http):
        await self.posted(http, "/v1/router:embed", {"texts": ["a"], "candidates": named("tei")})
        answer = (await http.get("/v1/providers")).json()
        found = {each["name"]: each for each in answer["providers"]}
        assert (found["tei"]["type"], found["tei"]["healthy"]) == ("tei", True)


async def program(*words: str) -> str:
    """What a program says that ends well."""
    process = await asyncio.create_subprocess_exec(*words, stdout=PIPE, stderr=PIPE)
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


class TestPrograms:
    EMBED = json.dumps({"texts": TEXTS, "candidates": named("llamacpp")})
    RERANK = json.dumps({"query": QUERY, "documents": TEXTS, "candidates": named("vllm")})

    async def test_curl_embeds(self, running, servers):
        url = running.mesh.url + "/v1/router:embed"
        answer = json.loads(await program("curl", "-sS", "--noproxy", "*", "-d", self.EMBED, url))
        assert [each["values"] for each in answer["embeddings"]] == [*map(direction, TEXTS)]

    async def test_grpcurl_embeds(self, running, servers):
        answer = await self.grpcurl(running, self.EMBED, "Embed")
        assert [each["values"] for each in answer["embeddings"]] == [*map(direction, TEXTS)]

    async def test_grpcurl_ranks(self, running, servers):
        answer = await self.grpcurl(running, self.RERANK, "Rerank")
        found = [(each.get("index", 0), each["score"]) for each in answer["results"]]
        assert found == best_first(TEXTS)

    async def grpcurl(self, running, body: str, method: str):
        grpcurl = str(Path(sys.executable).parent / "grpcurl")
        address = running.mesh.address
        said = await program(grpcurl, "-plaintext", "-d", body, address, f"{ROUTER}/{method}")
        return json.loads(said)
