"""Rankings by encoders on ONNX Runtime, in this process."""

from math import exp

import pytest

from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.encoders.onnx_cross_encoder import OnnxCrossEncoder
from servers.router.adapters.encoders.onnx_embeddings import OnnxEmbeddings
from servers.router.ports import RerankAsk
from tests.contract.encoder_asks import encoders, maxsim, scores, vectors
from tests.contract.tiny_encoders import cross_encoder, embedder, logit

__all__ = ["encoders"]


class TestLateInteraction:
    async def test_is_the_mean_of_each_word_s_best_match(self, encoders, tmp_path):
        model = OnnxEmbeddings(str(embedder(tmp_path)), encoders)
        documents = ("red apple", "sea", "green plum sky pear blue red")
        found = await scores(model, "red plum", *documents)
        expected = [maxsim(["red", "plum"], [document.split()]) for document in documents]
        assert found == pytest.approx(expected, abs=1e-5)

    async def test_counts_query_and_documents(self, encoders, tmp_path):
        model = OnnxEmbeddings(str(embedder(tmp_path)), encoders)
        found = await model.rerank(RerankAsk("m", "red plum", ("sea", "sky sea")))
        assert found.usage.prompt_tokens == 4 + 3 + 4


class TestACrossEncoder:
    QUERY = "red apple"
    DOCUMENTS = ("sky", "apple red apple sky", "red", "plum apple")

    async def test_scores_each_pair_between_0_and_1(self, encoders, tmp_path):
        model = OnnxCrossEncoder(str(cross_encoder(tmp_path)), encoders)
        found = await scores(model, self.QUERY, *self.DOCUMENTS)
        expected = [1 / (1 + exp(-logit(self.QUERY, each))) for each in self.DOCUMENTS]
        assert found == pytest.approx(expected)

    async def test_gives_its_logits_where_it_is_told_to(self, encoders, tmp_path):
        model = OnnxCrossEncoder(str(cross_encoder(tmp_path)), encoders, activation="none")
        found = await scores(model, self.QUERY, *self.DOCUMENTS)
        assert found == pytest.approx([logit(self.QUERY, each) for each in self.DOCUMENTS])

    @pytest.mark.parametrize(
        "config",
        [
            {"sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"}},
            {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        ],
    )
    async def test_gives_its_logits_where_its_folder_says_so(self, encoders, tmp_path, config):
        model = OnnxCrossEncoder(str(cross_encoder(tmp_path, config=config)), encoders)
        assert await scores(model, "red", "red red") == pytest.approx((logit("red", "red red"),))

    async def test_of_two_classes_tells_how_likely_the_second_one_is(self, encoders, tmp_path):
        model = OnnxCrossEncoder(str(cross_encoder(tmp_path, classes=2)), encoders)
        found = await scores(model, self.QUERY, *self.DOCUMENTS)
        expected = [1 / (1 + exp(-logit(self.QUERY, each))) for each in self.DOCUMENTS]
        assert found == pytest.approx(expected)

    async def test_of_three_classes_is_refused(self, encoders, tmp_path):
        model = OnnxCrossEncoder(str(cross_encoder(tmp_path, classes=3)), encoders)
        with pytest.raises(NotReady, match="3 classes") as refused:
            await scores(model, "red", "red")
        assert refused.value.reason == "MODEL_CANNOT"

    async def test_counts_the_query_with_every_document(self, encoders, tmp_path):
        model = OnnxCrossEncoder(str(cross_encoder(tmp_path)), encoders)
        found = await model.rerank(RerankAsk("m", "red apple", ("sky", "sky sea")))
        assert found.usage.prompt_tokens == 6 + 7

    async def test_finds_the_best_place_of_a_long_document(self, encoders, tmp_path):
        folder = cross_encoder(tmp_path, tokenizer_config={"model_max_length": 8})
        model = OnnxCrossEncoder(str(folder), encoders, activation="none")
        long = "sky sea sky sea plum sky red red sea"  # four words beside the query at once
        best = logit("red", "plum sky red red")
        assert await scores(model, "red", long) == pytest.approx((best,))

    async def test_reads_the_beginning_only_where_it_is_told_to_cut(self, encoders, tmp_path):
        folder = cross_encoder(tmp_path, tokenizer_config={"model_max_length": 8})
        model = OnnxCrossEncoder(str(folder), encoders, activation="none", truncate=True)
        long = "sky sea sky sea plum sky red red sea"
        assert await scores(model, "red", long) == pytest.approx((logit("red", "sky sea sky sea"),))

    async def test_refuses_a_query_that_leaves_no_room(self, encoders, tmp_path):
        folder = cross_encoder(tmp_path, tokenizer_config={"model_max_length": 8})
        with pytest.raises(InvalidInput, match="leaves no room") as refused:
            await scores(OnnxCrossEncoder(str(folder), encoders), "red " * 8, "red")
        assert refused.value.violations[0].field == "query"

    async def test_is_not_taken_for_an_embedder(self, encoders, tmp_path):
        with pytest.raises(NotReady, match="gives no vectors"):
            await vectors(OnnxEmbeddings(str(cross_encoder(tmp_path)), encoders), "red")

    async def test_is_no_embedder_either(self, encoders, tmp_path):
        with pytest.raises(NotReady, match="is no cross-encoder"):
            await scores(OnnxCrossEncoder(str(embedder(tmp_path)), encoders), "red", "red")
