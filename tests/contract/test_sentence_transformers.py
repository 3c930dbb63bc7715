"""Embeddings and rankings by the library sentence-transformers, with models built here.

PyTorch is no part of the environment that `make` sets up: `make torch` makes one that has it.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from servers.domain.embeddings import Purpose
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.encoders.owner import Encoders, open_encoders
from servers.router.adapters.encoders.torch_encoders import SentenceTransformers
from servers.router.ports import EmbedAsk, RerankAsk
from tests.contract.tiny_encoders import VOCABULARY, tokenizer

torch = pytest.importorskip("torch", reason="`make torch` runs these")
sentence_transformers = pytest.importorskip("sentence_transformers")
transformers = pytest.importorskip("transformers")

pytestmark = [
    pytest.mark.slow,
    # The library's own imports and ours of it are not what is tested.
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),
]
TEXTS = ("red apple", "sky sea sky sea plum", "green")
QUERY, DOCUMENTS = "red apple", ("sky", "apple red apple sky", "plum")


def _config(**more: object):
    return transformers.BertConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
        **more,
    )


def _save(folder: Path, model) -> Path:
    model.save_pretrained(folder)
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer(),
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        model_max_length=32,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory) -> Path:
    """A plain BERT: the library puts mean pooling behind it."""
    torch.manual_seed(1)
    return _save(tmp_path_factory.mktemp("bert"), transformers.BertModel(_config()))


@pytest.fixture(scope="module")
def prompted(bert, tmp_path_factory) -> Path:
    """The same as the library saves it, with prompts."""
    folder = tmp_path_factory.mktemp("prompted")
    prompts = {"query": "query: ", "document": "passage: "}
    model = sentence_transformers.SentenceTransformer(str(bert), prompts=prompts, device="cpu")
    model.save(str(folder))
    return folder


@pytest.fixture(scope="module")
def ranker(tmp_path_factory) -> Path:
    torch.manual_seed(2)
    model = transformers.BertForSequenceClassification(_config(num_labels=1))
    return _save(tmp_path_factory.mktemp("ranker"), model)


@pytest.fixture
async def encoders() -> AsyncIterator[Encoders]:
    async with open_encoders() as encoders:
        yield encoders


async def vectors(model: SentenceTransformers, *texts: str, **wanted) -> np.ndarray:
    return np.array((await model.embed(EmbedAsk("m", texts, **wanted))).vectors)


def library(folder: Path):
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu")


def close(found, expected) -> bool:
    return np.allclose(found, expected, atol=1e-5)


class TestVectors:
    async def test_are_the_library_s_own(self, encoders, bert):
        found = await vectors(SentenceTransformers(str(bert), encoders), *TEXTS)
        assert close(found, library(bert).encode(list(TEXTS)))

    async def test_are_the_same_for_callers_who_share_a_batch(self, encoders, bert):
        model = SentenceTransformers(str(bert), encoders)
        found = await asyncio.gather(*(vectors(model, TEXTS[each % 3]) for each in range(100)))
        expected = library(bert).encode(list(TEXTS))
        assert all(close(one[0], expected[each % 3]) for each, one in enumerate(found))

    async def test_know_the_model_s_prompts_by_the_purpose(self, encoders, prompted):
        model = SentenceTransformers(str(prompted), encoders)
        query, document = await asyncio.gather(
            vectors(model, "red", purpose=Purpose.QUERY),
            vectors(model, "red", purpose=Purpose.DOCUMENT),
        )
        plain = library(prompted)
        assert close(query[0], plain.encode("query: red"))
        assert close(document[0], plain.encode("passage: red"))

    async def test_know_prompts_of_the_configuration_instead(self, encoders, prompted):
        model = SentenceTransformers(str(prompted), encoders, query_prefix="")
        found = await vectors(model, "red", purpose=Purpose.QUERY)
        assert close(found[0], library(prompted).encode("red"))

    async def test_come_with_the_tokens_that_were_read(self, encoders, prompted):
        model = SentenceTransformers(str(prompted), encoders)
        found = await model.embed(EmbedAsk("m", ("red sky", "sea")))
        assert found.usage.prompt_tokens == 5 + 4  # with [CLS], the prompt's word and [SEP]


class TestScores:
    async def test_are_the_library_s_own(self, encoders, ranker):
        model = SentenceTransformers(str(ranker), encoders)
        found = await model.rerank(RerankAsk("m", QUERY, DOCUMENTS))
        own = sentence_transformers.CrossEncoder(str(ranker), device="cpu")
        expected = own.predict([(QUERY, document) for document in DOCUMENTS])
        assert found.scores == pytest.approx(tuple(expected.tolist()), abs=1e-5)
        assert len(set(found.scores)) == len(DOCUMENTS)

    async def test_come_with_the_tokens_that_were_read(self, encoders, ranker):
        model = SentenceTransformers(str(ranker), encoders)
        found = await model.rerank(RerankAsk("m", QUERY, ("sky", "sky sea")))
        assert found.usage.prompt_tokens == 6 + 7


class TestALongText:
    LONG = "sky " * 40

    async def test_is_refused_by_its_place(self, encoders, bert):
        with pytest.raises(InvalidInput, match=r"texts\[1\]: has 42 tokens.* reads 32") as refused:
            await vectors(SentenceTransformers(str(bert), encoders), "red", self.LONG)
        assert refused.value.reason == "TEXT_TOO_LONG"

    async def test_is_cut_where_the_configuration_says_so_and_the_log_tells(self, encoders, bert):
        model = SentenceTransformers(str(bert), encoders, truncate=True)
        with capture_logs() as logs:
            found = await vectors(model, self.LONG)
        assert close(found, library(bert).encode([self.LONG]))
        assert [(each["event"], each["texts"]) for each in logs] == [("texts were cut", 1)]

    async def test_is_shorter_where_less_is_to_be_read(self, encoders, bert):
        with pytest.raises(InvalidInput, match="reads 4"):
            await vectors(SentenceTransformers(str(bert), encoders, max_tokens=4), "red sky sea")


class TestAModel:
    async def test_for_vectors_is_not_asked_for_scores(self, encoders, bert):
        with pytest.raises(NotReady, match="no cross-encoder") as refused:
            await SentenceTransformers(str(bert), encoders).rerank(RerankAsk("m", "q", ("d",)))
        assert refused.value.reason == "MODEL_CANNOT"

    async def test_for_scores_is_not_asked_for_vectors(self, encoders, ranker):
        with pytest.raises(NotReady, match="is a cross-encoder") as refused:
            await vectors(SentenceTransformers(str(ranker), encoders), "red")
        assert refused.value.reason == "MODEL_CANNOT"

    async def test_of_either_sort_is_healthy(self, encoders, bert, ranker):
        for folder in (bert, ranker):
            await SentenceTransformers(str(folder), encoders).health("")

    async def test_that_is_nowhere_is_named_and_not_downloaded(self, encoders):
        with pytest.raises(NotReady, match="nor a model in its cache") as gone:
            await vectors(SentenceTransformers("no-one/no-such-model", encoders), "red")
        assert gone.value.reason == "MODEL_MISSING"

    async def test_that_is_broken_is_named(self, encoders, tmp_path):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
        with pytest.raises(NotReady, match="can't be loaded") as broken:
            await vectors(SentenceTransformers(str(tmp_path), encoders), "red")
        assert broken.value.reason == "MODEL_BROKEN"

    async def test_needs_a_gpu_where_the_configuration_wants_one(self, encoders, bert):
        if torch.cuda.is_available():
            pytest.skip("there is a GPU")
        with pytest.raises(NotReady, match="finds no GPU"):
            await vectors(SentenceTransformers(str(bert), encoders, device="cuda"), "red")
