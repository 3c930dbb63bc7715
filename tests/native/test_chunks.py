"""One specification of `recursive_chunks`, two implementations, and what LangChain makes of it."""

import time
from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from langchain_text_splitters import RecursiveCharacterTextSplitter

from servers.kernel import native
from servers.kernel.native import chunks

Stretches = tuple[tuple[int, int], ...]
Cut = Callable[..., list[Stretches]]
IMPLEMENTATIONS = {"python": chunks.recursive_chunks} | (
    {"c++": native.recursive_chunks} if native.COMPILED else {}
)


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def cut(request: pytest.FixtureRequest) -> Cut:
    return request.param


def told(text: str, found: list[Stretches]) -> list[str]:
    return ["".join(text[start:end] for start, end in stretches) for stretches in found]


class TestAText:
    def test_that_fits_is_one_chunk(self, cut):
        assert cut("Well met.", 9) == [((0, 9),)]

    @pytest.mark.parametrize("text", ["", " ", "\n\n\n \u2003"])
    def test_without_a_letter_has_no_chunks(self, cut, text):
        assert cut(text, 2) == []

    def test_is_cut_at_the_first_separator_that_it_has(self, cut):
        assert told("a b\n\nc d", cut("a b\n\nc d", 4)) == ["a b", "c d"]

    def test_is_cut_on_at_the_next_where_that_leaves_too_much(self, cut):
        text = "one two three\n\nfour"
        assert told(text, cut(text, 8)) == ["one two", "three", "four"]

    def test_is_cut_anywhere_in_the_end(self, cut):
        assert told("abcdefg", cut("abcdefg", 3, 1)) == ["abc", "cde", "efg"]

    @pytest.mark.parametrize("letter", ["a", "é", "я", "語", "🦜"])
    def test_has_spans_in_characters_however_wide(self, cut, letter):
        text = f"{letter * 3} {letter * 2}"
        assert cut(text, 4) == [((0, 3),), ((4, 6),)]


class TestASeparator:
    @pytest.mark.parametrize(("keep", "chunks"), [("start", [",b"]), ("end", ["b,"]), ("", ["b"])])
    def test_stays_where_it_is_wanted(self, cut, keep, chunks):
        assert told("a,b,c", cut("a,b,c", 2, 0, [",", ""], keep))[1:2] == chunks

    def test_that_is_not_kept_counts_once_in_a_row(self, cut):
        text = "a,,,b"
        found = cut(text, 4, 0, [","], "")
        assert found == [((0, 2), (4, 5))]
        assert told(text, found) == ["a,b"]

    def test_wider_than_the_text_is_not_in_it(self, cut):
        assert told("abc", cut("abc", 2, 0, ["語", "ł", ""])) == ["ab", "c"]

    def test_may_be_missing_in_a_piece_that_is_too_long(self, cut):
        assert told("a abcdef", cut("a abcdef", 3, 0, [" "])) == ["a", " abcdef"]


class TestWhatIsAskedFor:
    @pytest.mark.parametrize("size", [0, -1])
    def test_has_a_size(self, cut, size):
        with pytest.raises(ValueError, match=f"^size: {size} is less than 1$"):
            cut("a", size)

    @pytest.mark.parametrize("overlap", [-1, 3, 4])
    def test_has_an_overlap_below_the_size(self, cut, overlap):
        with pytest.raises(ValueError, match=f"^overlap: {overlap} is not from 0 to 2, one less"):
            cut("a", 3, overlap)

    @pytest.mark.parametrize("separators", [[], ["x"] * 257], ids=len)
    def test_has_some_separators(self, cut, separators):
        with pytest.raises(ValueError, match=r"^separators: .* are not from 1 to 256$"):
            cut("a", 3, 0, separators)

    def test_says_where_separators_stay(self, cut):
        with pytest.raises(ValueError, match=r"^keep: 'middle' is none of "):
            cut("a", 3, keep="middle")


@pytest.mark.parametrize("piece", ["a", " ", "\n", "\n\n", "a ", "ab\n", "abc\n\n"], ids=repr)
def test_twice_the_text_is_about_twice_the_time(cut, piece):
    def seconds(size: int) -> float:
        text = piece * (size // len(piece))
        began = time.thread_time()
        cut(text, 100, 20)
        return time.thread_time() - began

    seconds(1_000)
    small, large = (min(seconds(n) for _ in range(3)) for n in (8_000, 64_000))
    assert large < 8 * 4 * small + 0.01  # quadratic: 64 times


SPACES = "\t\x0b\x0c\r\x1c\x1f\x85\xa0\u1680\u2007\u2028\u202f\u205f\u3000\u200b\ufeff"
PIECES = [*"abcé語🦜. ", "\n", "\n\n", "\n\n\n", " " * 3, ", ", *SPACES, "word", "a longer word"]
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join) | st.text(max_size=40)
separators = st.lists(
    st.sampled_from(["\n\n", "\n", " ", "", ". ", ",", "aa", "a", "aba", "語", "\n\n\n", "word"])
    | st.text(max_size=2),
    min_size=1,
    max_size=5,
)


choices = st.just(list(chunks.SEPARATORS)) | separators
sizes_and_overlaps = st.integers(1, 30).flatmap(
    lambda size: st.tuples(st.just(size), st.integers(0, size - 1))
)


@given(texts, sizes_and_overlaps, choices, st.sampled_from(["start", "end", ""]), st.booleans())
@settings(max_examples=1500)
@example("ab" * 9, (5, 2), ["aba", ""], "", True)
def test_chunks_are_exactly_those_of_langchain(text, sizes, separators, keep, strip):
    size, overlap = sizes
    splitter = RecursiveCharacterTextSplitter(
        separators=separators,
        keep_separator=keep or False,
        chunk_size=size,
        chunk_overlap=overlap,
        strip_whitespace=strip,
    )
    expected = splitter.split_text(text)
    for cut in IMPLEMENTATIONS.values():
        assert told(text, cut(text, size, overlap, separators, keep, strip)) == expected


@pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")
@given(texts, sizes_and_overlaps, choices, st.sampled_from(["start", "end", ""]), st.booleans())
@settings(max_examples=400)
def test_both_have_the_same_spans(text, sizes, separators, keep, strip):
    how = (*sizes, separators, keep, strip)
    assert native.recursive_chunks(text, *how) == chunks.recursive_chunks(text, *how)


@given(texts, st.integers(1, 12), st.integers(0, 11))
def test_the_reference_measures_by_any_length_as_langchain_does(text, size, overlap):
    def words(text: str) -> int:
        return len(text.split())

    overlap = min(overlap, size - 1)
    expected = RecursiveCharacterTextSplitter(
        chunk_size=size, chunk_overlap=overlap, length_function=words
    ).split_text(text)
    assert told(text, chunks.recursive_chunks(text, size, overlap, length=words)) == expected
