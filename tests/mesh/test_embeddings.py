"""Texts by meaning, through the public ports: by the model that every mesh has."""

import asyncio
from collections.abc import Iterator

import grpc
import httpx
import pytest
from astromesh.router.v1 import candidate_pb2, completion_pb2, provider_pb2, router_service_pb2_grpc
from astromesh.router.v1 import texts_pb2 as pb
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.contract.tiny_encoders import cross_encoder, embedder, logit
from tests.mesh.mesh_process import MeshProcess, mesh_process
from tests.patience import PATIENCE

CAT, KITTEN, MARKET = (
    "A cat sits on the mat.",
    "A kitten is resting on a small carpet.",
    "Stock markets fell sharply after the announcement.",
)
PROVIDERS = """
apiVersion: astromesh/v1
kind: ProviderConfig
metadata: {{name: providers}}
spec:
  providers:
    embeddings: {{type: onnx_embeddings, health_check_interval: 0.2}}
    ranks: {{type: onnx_cross_encoder, endpoint: "{folder}/ranks", models: [counts],
             options: {{activation: none}}}}
    short: {{type: onnx_embeddings, endpoint: "{folder}/short", models: [short]}}
    gone: {{type: onnx_embeddings, endpoint: "{folder}/gone", models: [gone]}}
    torch: {{type: sentence_transformers, endpoint: BAAI/bge-small-en-v1.5, models: [bge]}}
"""


@pytest.fixture(scope="module")
def mesh(tmp_path_factory) -> Iterator[MeshProcess]:
    folder = tmp_path_factory.mktemp("embeddings")
    (folder / "config" / "agents").mkdir(parents=True)
    cross_encoder(folder / "ranks")
    embedder(folder / "short", sentence_bert_config={"max_seq_length": 8})
    (folder / "config" / "providers.yaml").write_text(PROVIDERS.format(folder=folder))
    with mesh_process(folder) as mesh:
        yield mesh


@pytest.fixture
async def router(mesh):
    async with grpc.aio.insecure_channel(mesh.address) as channel:
        yield router_service_pb2_grpc.RouterServiceStub(channel)


def candidate(provider: str, model: str = "") -> candidate_pb2.ModelCandidate:
    return candidate_pb2.ModelCandidate(provider=provider, model=model)


def reason(error: grpc.aio.AioRpcError) -> str:
    info = error_details_pb2.ErrorInfo()
    rpc_status.from_call(error).details[0].Unpack(info)
    return info.reason


async def test_texts_become_vectors_where_no_model_is_named(router):
    answer = await router.Embed(pb.EmbedRequest(texts=[CAT, KITTEN, MARKET]))
    cat, kitten, market = (each.values for each in answer.embeddings)
    likeness = sum(a * b for a, b in zip(cat, kitten, strict=True))
    assert likeness > 0.5 > sum(a * b for a, b in zip(cat, market, strict=True)) + 0.2
    assert (answer.model, len(cat), answer.usage.cost_usd) == ("all-minilm-l6-v2", 384, 0.0)
    assert answer.usage.prompt_tokens > 20


async def test_documents_are_ranked_where_no_model_is_named(router):
    documents = [MARKET, KITTEN, CAT]
    asked = pb.RerankRequest(query="Where is the cat?", documents=documents, top_n=2)
    answer = await router.Rerank(asked)
    assert [each.index for each in answer.results] == [2, 1]
    assert answer.model == "all-minilm-l6-v2"


async def test_the_same_over_rest(mesh):
    async with httpx.AsyncClient(base_url=mesh.url, timeout=PATIENCE, trust_env=False) as http:
        body = {"query": "Where is the cat?", "documents": [MARKET, CAT]}
        answer = await http.post("/v1/router:rerank", json=body)
    assert [each["index"] for each in answer.json()["results"]] == [1, 0]


async def test_many_callers_at_once_are_all_answered_rightly(router):
    texts = [f"Sentence number {number}." for number in range(200)]
    alone = [await router.Embed(pb.EmbedRequest(texts=[text])) for text in texts[::40]]
    together = await asyncio.gather(*(router.Embed(pb.EmbedRequest(texts=[t])) for t in texts))
    for one, other in zip(alone, together[::40], strict=True):
        pairs = zip(one.embeddings[0].values, other.embeddings[0].values, strict=True)
        assert sum(a * b for a, b in pairs) == pytest.approx(1, abs=1e-4)


async def test_a_cross_encoder_of_one_s_own_ranks(router):
    documents = ["sky", "red apple red", "red"]
    asked = pb.RerankRequest(
        query="red apple", documents=documents, candidates=[candidate("ranks")]
    )
    answer = await router.Rerank(asked)
    found = {documents[each.index]: each.score for each in answer.results}
    assert list(found) == ["red apple red", "red", "sky"]
    assert list(found.values()) == pytest.approx([logit("red apple", each) for each in found])
    assert (answer.provider, answer.model) == ("ranks", "counts")


@pytest.mark.parametrize(
    ("provider", "texts", "code", "why"),
    [
        ("gone", [CAT], grpc.StatusCode.FAILED_PRECONDITION, "MODEL_MISSING"),
        ("torch", [CAT], grpc.StatusCode.FAILED_PRECONDITION, "EXTRA_MISSING"),
        ("short", ["red " * 1000], grpc.StatusCode.INVALID_ARGUMENT, "TEXT_TOO_LONG"),
        ("ranks", [CAT], grpc.StatusCode.INVALID_ARGUMENT, "PROVIDER_UNFIT"),
    ],
)
async def test_what_can_not_be_done_is_told_by_its_reason(router, provider, texts, code, why):
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await router.Embed(pb.EmbedRequest(texts=texts, candidates=[candidate(provider)]))
    assert (refused.value.code(), reason(refused.value)) == (code, why)


async def test_a_chat_with_an_embedding_model_is_refused(router):
    asked = completion_pb2.CompleteRequest(candidates=[candidate("embeddings")])
    asked.messages.add(role="ROLE_USER").parts.add(text="hello")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await router.Complete(asked)
    assert reason(refused.value) == "PROVIDER_UNFIT"


async def test_a_caller_can_not_name_a_folder(router):
    asked = pb.EmbedRequest(texts=[CAT], candidates=[candidate("onnx_embeddings")])
    asked.candidates[0].endpoint = "/etc"
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await router.Embed(asked)
    assert reason(refused.value) == "FOLDER_DENIED"


async def test_models_are_listed_with_what_they_do_also_where_their_packages_are_missing(router):
    listed = (await router.ListModels(provider_pb2.ListModelsRequest())).models
    does = {each.provider: list(each.does) for each in listed}
    assert does["embeddings"] == does["torch"] == ["embed", "rerank"]
    assert does["ranks"] == ["rerank"]


async def test_a_provider_s_health_is_that_its_model_can_be_loaded(router):
    async with asyncio.timeout(PATIENCE):
        while True:
            listed = (await router.ListProviders(provider_pb2.ListProvidersRequest())).providers
            (found,) = [each for each in listed if each.name == "embeddings"]
            if found.healthy:
                return
            await asyncio.sleep(0.05)
