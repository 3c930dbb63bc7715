"""One specification of `sentence_spans` and `sentence_chunks`, two implementations."""

import time
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers.kernel import native
from servers.kernel.native import sentences

IMPLEMENTATIONS = {"python": sentences} | ({"c++": native} if native.COMPILED else {})


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def functions(request: pytest.FixtureRequest) -> SimpleNamespace:
    return request.param


@pytest.fixture
def split(functions):
    return lambda text: [text[a:b] for a, b in functions.sentence_spans(text)]


@pytest.fixture
def chunked(functions):
    return lambda text, *sizes: [text[a:b] for a, b in functions.sentence_chunks(text, *sizes)]


class TestASentence:
    @pytest.mark.parametrize("stop", [".", "!", "?", "...", "?!", "\u2026", '."', ".)", "!\u201d"])
    def test_ends_at_a_stop_and_what_closes_after_it(self, split, stop):
        assert split(f"  One{stop}  Two.\n") == [f"One{stop}", "Two."]

    def test_ends_without_white_space_where_there_is_none(self, split):
        assert split("今天好。你呢\uff1f「好\uff01」我走。") == [
            "今天好。",
            "你呢\uff1f",
            "「好\uff01」",
            "我走。",
        ]

    @pytest.mark.parametrize("line", ["\n\n", "\n \t\n", "\r\n\r\n"])
    def test_ends_at_an_empty_line(self, split, line):
        assert split(f"A title{line}and a text") == ["A title", "and a text"]

    @pytest.mark.parametrize(
        "text",
        [
            "It costs 3.50 today",
            "See www.example.com for it",
            "Well... maybe",
            '"Really?" he said',
            "Voilà! dit-elle. été",
            "Mr. Smith and Dr. Jones",
            "J. R. R. Tolkien, e.g. The Hobbit",
            "in the U.S. Army",
            "See Fig. 3 and No. 5 of Vol. 2",
            "1. Take one",
            "First line\nsecond line",
        ],
    )
    def test_goes_on(self, split, text):
        assert split(text) == [text]

    @pytest.mark.parametrize(
        "text",
        [
            "He said no. Then he left.",
            "The prof is here. 5 came.",
            "It was 3. Then 4.",
            "Über J. Smith. Er kam.",
            "He has rhymes. They end in rms. Not Ms. Smith.",
        ],
    )
    def test_ends_where_a_word_only_looks_like_an_abbreviation(self, split, text):
        assert len(split(text)) > 1

    @pytest.mark.parametrize("text", ["", " \n\n "])
    def test_is_not_in_nothing(self, split, text):
        assert split(text) == []


TEXT = "One is short. Two is not. Three is a bit longer. Four."


class TestAChunk:
    def test_has_as_many_whole_sentences_as_fit(self, chunked):
        assert chunked(TEXT, 30) == ["One is short. Two is not.", "Three is a bit longer. Four."]

    def test_begins_with_the_whole_sentences_that_overlap(self, chunked):
        assert chunked(TEXT, 40, 12) == [
            "One is short. Two is not.",
            "Two is not. Three is a bit longer. Four.",
        ]

    def test_begins_with_none_where_that_leaves_no_room(self, chunked):
        assert chunked(TEXT, 28, 12)[1] == "Three is a bit longer. Four."

    def test_is_a_part_of_a_sentence_that_is_too_long(self, chunked):
        assert chunked("Hi. This one is long. Yes.", 10, 3) == [
            "Hi.",
            "This one",
            "is long.",
            "Yes.",
        ]

    @pytest.mark.parametrize("sizes", [(0,), (3, 3), (3, -1)])
    def test_has_a_size_and_a_smaller_overlap(self, chunked, sizes):
        with pytest.raises(ValueError, match=r"^(size|overlap): "):
            chunked("a", *sizes)


@pytest.mark.parametrize("piece", [".", "a.", ". ", ".)", "1", "1. ", "\n ", "a. b", "。", "e.g. "])
def test_twice_the_text_is_about_twice_the_time(functions, piece):
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        began = time.thread_time()
        functions.sentence_chunks(text, 100, 20)
        return time.thread_time() - began

    seconds(1_000)
    small, large = (min(seconds(n) for _ in range(3)) for n in (8_000, 64_000))
    assert large < 8 * 4 * small + 0.01  # quadratic: 64 times


PIECES = [
    *"aZé9語.!?)\"' \n",
    "…",
    "。",
    "」",
    "Mr",
    "fig",
    "e.g",
    "\n \n",
    "\x85",
    "\u2003",
    "12",
    "Word ",
]
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=40)
sizes = st.integers(1, 30).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1)))


@pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")
@given(texts, sizes)
@settings(max_examples=1000)
def test_both_say_the_same(text, sizes):
    assert native.sentence_spans(text) == sentences.sentence_spans(text)
    assert native.sentence_chunks(text, *sizes) == sentences.sentence_chunks(text, *sizes)


@given(texts)
def test_between_sentences_is_only_white_space(text):
    at = 0
    for start, end in native.sentence_spans(text):
        assert not text[at:start].strip()
        assert text[start:end].strip() == text[start:end]
        at = end
    assert not text[at:].strip()


@given(texts, sizes)
def test_a_chunk_fits_and_has_whole_sentences_unless_one_is_longer(text, sizes):
    found = native.sentence_spans(text)
    starts, ends = {a for a, _ in found}, {b for _, b in found}
    for start, end in native.sentence_chunks(text, *sizes):
        assert end - start <= sizes[0]
        around = [b - a for a, b in found if a <= start and end <= b]
        assert (start in starts and end in ends) or around[0] > sizes[0]


@given(texts, sizes)
def test_no_text_is_lost_and_each_chunk_brings_something_new(text, sizes):
    covered = 0
    for start, end in native.sentence_chunks(text, *sizes):
        assert not text[covered:start].strip()
        assert end > covered
        covered = end
    assert not text[covered:].strip()
