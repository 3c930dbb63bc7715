"""Chunks: their texts, where they lie, and what never happens to them."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.kernel import chunking
from servers.kernel.chunking import Chunk


def words(text: str) -> int:
    return len(text.split())


def told(chunks: list[Chunk]) -> list[str]:
    return [chunk.text for chunk in chunks]


class TestFixed:
    def test_has_the_size_and_the_overlap(self):
        assert told(chunking.fixed(string.ascii_lowercase, 10, 3)) == [
            "abcdefghij",
            "hijklmnopq",
            "opqrstuvwx",
            "vwxyz",
        ]

    def test_a_text_of_just_the_size_is_one_chunk(self):
        assert chunking.fixed("a" * 10, 10, 3) == [Chunk("a" * 10, 0, 10)]

    @pytest.mark.parametrize("length", [None, words])
    def test_of_nothing_there_are_none(self, length):
        assert chunking.fixed("", 10, 3, length) == []

    def test_a_chunk_that_would_be_overlap_only_is_dropped(self):
        assert told(chunking.fixed("abcdefg", 5, 3)) == ["abcde", "cdefg"]

    def test_counts_by_another_length(self):
        text = "one two three four five"
        assert [words(each) for each in told(chunking.fixed(text, 2, 1, words))] == [2, 2, 2, 2]

    def test_what_is_longer_than_the_size_by_itself_stands_alone(self):
        assert told(chunking.fixed("aab", 1, 0, lambda text: 2 * len(text))) == ["a", "a", "b"]


class TestRecursive:
    def test_has_spans_in_the_source(self):
        assert chunking.recursive("one two\n\nthree", 8) == [
            Chunk("one two", 0, 7),
            Chunk("three", 9, 14),
        ]

    def test_has_a_separator_once_where_none_are_kept(self):
        [chunk] = chunking.recursive("a,,b", 4, separators=[","], keep="")
        assert chunk == Chunk("a,b", 0, 4)

    def test_counts_by_another_length(self):
        assert told(chunking.recursive("one two three", 2, length=words)) == ["one two", "three"]


class TestSentence:
    def test_has_whole_ones(self):
        assert chunking.sentence("One. Two. Three.", 10) == [
            Chunk("One. Two.", 0, 9),
            Chunk("Three.", 10, 16),
        ]

    def test_counts_by_another_length(self):
        text = "One two. Three. Four five six."
        assert told(chunking.sentence(text, 3, 1, words)) == ["One two. Three.", "Four five six."]


class TestSemantic:
    TEXT = "Cats purr. Cats sleep. Rust is iron. "
    SPANS = ((0, 10), (11, 22), (23, 36))

    def test_keeps_together_what_is_alike(self):
        assert told(chunking.semantic(self.TEXT, self.SPANS, [0.9, 0.1], 100, 0.5)) == [
            "Cats purr. Cats sleep.",
            "Rust is iron.",
        ]

    def test_parts_what_does_not_fit(self):
        assert len(chunking.semantic(self.TEXT, self.SPANS, [1, 1], 22, 0.5)) == 2

    def test_needs_a_cosine_for_each_two_neighbours(self):
        with pytest.raises(ValueError, match=r"^alike: "):
            chunking.semantic(self.TEXT, self.SPANS, [1], 22, 0.5)

    def test_of_nothing_there_are_none(self):
        assert chunking.semantic("", [], [], 22, 0.5) == []


CUTS = {
    "fixed": chunking.fixed,
    "recursive": chunking.recursive,
    "sentence": chunking.sentence,
    "fixed by words": lambda text, *sizes: chunking.fixed(text, *sizes, words),
    "recursive by words": lambda text, *sizes: chunking.recursive(text, *sizes, length=words),
    "sentence by words": lambda text, *sizes: chunking.sentence(text, *sizes, words),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@given(
    st.text(alphabet="abé語 .\n", max_size=60),
    st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n - 1))),
)
def test_no_text_is_lost_and_none_is_overlap_only(cut, text, sizes):
    covered = 0
    for chunk in cut(text, *sizes):
        assert chunk.text == text[chunk.start : chunk.end]
        assert not text[covered : chunk.start].strip()
        assert chunk.end > covered
        covered = chunk.end
    assert not text[covered:].strip()


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@pytest.mark.parametrize("sizes", [(0, 0), (5, 5), (5, -1)], ids=str)
def test_sizes_that_make_no_sense_are_refused(cut, sizes):
    with pytest.raises(ValueError, match=r"^(size|overlap): "):
        cut("text", *sizes)
