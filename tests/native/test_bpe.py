"""One specification of `Bpe`, two implementations: counts and cuts by a vocabulary."""

import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers.kernel import native
from servers.kernel.native import bpe, letter_kinds

IMPLEMENTATIONS = {"python": bpe.Bpe} | ({"c++": native.Bpe} if native.COMPILED else {})
BYTES = [bytes([byte]) for byte in range(256)]
MERGES = "ab abc bc cd dd aa aaa aaaa s\u200b é éé \U0001f99c the ing 12 123 '' \r\n --"
TOKENS = [*BYTES, *(each.encode() for each in MERGES.split(" "))]
TOKENS += [b" the", b"  ", b"   ", b"\n\n", b" a"]
KINDS = letter_kinds.kinds()
PIECES = [
    *"abcdA É'1/-_\u00a0\u0301語",
    "\n",
    "\r",
    " ",
    "  ",
    "the",
    "ing",
    "'s",
    "'LL",
    "'\u017f",
]
PIECES += ["\u01c5", "\u02b0", "\u2160", "👩\u200d👧", "aa", "dd", "123", "\x00", "\x85", "\u2028"]
texts = st.lists(st.sampled_from(PIECES), max_size=30).map("".join) | st.text(max_size=30)


def made(pattern: str, tokens: list[bytes] = TOKENS) -> dict[str, bpe.Bpe]:
    return {name: each(tokens, KINDS, pattern) for name, each in IMPLEMENTATIONS.items()}


ENCODINGS = {pattern: made(pattern) for pattern in ("o200k", "cl100k")}


@pytest.fixture(params=IMPLEMENTATIONS)
def o200k(request: pytest.FixtureRequest) -> bpe.Bpe:
    return ENCODINGS["o200k"][request.param]


class TestATokenOfAPiece:
    @pytest.mark.parametrize(
        ("text", "count"),
        [
            ("", 0),
            ("ab", 1),
            ("abc", 1),
            ("abcd", 2),
            ("aaaaa", 2),
            ("ddd", 2),
            ("é", 1),
            ("x語", 4),
        ],
    )
    def test_is_merged_from_the_lowest_rank_on(self, o200k, text, count):
        assert o200k.count(text) == count

    def test_does_not_reach_over_the_end_of_a_piece(self, o200k):
        assert [o200k.count(text) for text in ("a a", "a  a", "1231", "'' ''")] == [2, 3, 2, 3]

    def test_is_the_same_after_others_were_counted(self, o200k):
        words = [a + b + c + d for a in "abcd" for b in "abcd" for c in "abcd" for d in "abcd"]
        assert [o200k.count(word) for word in words] == [o200k.count(word) for word in words]


class TestABeginning:
    def test_has_as_many_tokens_as_are_wanted(self, o200k):
        assert [o200k.fitting("the the the", most) for most in (-1, 0, 1, 2, 3)] == [0, 0, 3, 7, 11]

    def test_has_whole_characters(self, o200k):
        assert [o200k.fitting("語語", most) for most in range(7)] == [0, 0, 0, 1, 1, 1, 2]


class TestItIsRefused:
    def test_to_count_half_a_character(self, o200k):
        for call in (o200k.count, lambda text: o200k.fitting(text, 3)):
            with pytest.raises(ValueError, match=r"^text: half of a character is in it$"):
                call("a\ud83e")

    @pytest.mark.parametrize("kind", IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
    def test_to_begin_without_what_is_needed(self, kind):
        with pytest.raises(ValueError, match=r"^tokens: not every single byte is one$"):
            kind(BYTES[1:], KINDS, "o200k")
        with pytest.raises(ValueError, match=r"^kinds: there is not one for each code point$"):
            kind(BYTES, KINDS[1:], "o200k")
        with pytest.raises(ValueError, match=r"^pattern: 'gpt2' is neither o200k nor cl100k$"):
            kind(BYTES, KINDS, "gpt2")


@given(texts, st.integers(0, 12), st.sampled_from(list(ENCODINGS)))
@settings(max_examples=300)
def test_both_count_and_cut_the_same(text, most, pattern):
    found = {(each.count(text), each.fitting(text, most)) for each in ENCODINGS[pattern].values()}
    assert len(found) == 1


@pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")
@pytest.mark.parametrize("piece", ["a", "ab", "d", "-", " ", "語"])
def test_long_pieces_are_merged_as_short_ones(piece):
    reference, compiled = ENCODINGS["cl100k"]["python"], ENCODINGS["cl100k"]["c++"]
    for size in (90, 95, 96, 97, 98, 130):
        assert compiled.count(piece * size) == reference.count(piece * size)


@pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")
def test_many_may_count_at_once():
    compiled = ENCODINGS["o200k"]["c++"]
    text = "abcd the ing 123 '' é " * 2000
    counts: list[int] = []
    threads = [
        threading.Thread(target=lambda: counts.append(compiled.count(text))) for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [compiled.count(text)] * 6
