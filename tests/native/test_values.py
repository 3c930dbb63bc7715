"""One specification of the chunkers that make values, two implementations."""

from collections.abc import Iterator
from dataclasses import dataclass
from sys import getrefcount
from types import ModuleType
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers.kernel import native
from servers.kernel.chunking import Chunk
from servers.kernel.native import values

IMPLEMENTATIONS = {"python": values} | ({"c++": native} if native.COMPILED else {})


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def functions(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    return request.param


class Tuple(NamedTuple):
    text: str
    start: int
    end: int


@dataclass
class Open:
    text: str
    start: int
    end: int


class TestAValue:
    @pytest.mark.parametrize("kind", [Chunk, Tuple, Open])
    def test_is_of_the_class_that_is_wanted(self, functions, kind):
        assert functions.fixed_values(kind, "abc", 2) == [kind("ab", 0, 2), kind("c", 2, 3)]

    def test_is_held_by_the_list_alone(self, functions):
        found = functions.recursive_values(Chunk, "ab語 cd", 3)
        assert found == [Chunk("ab語", 0, 3), Chunk("cd", 4, 6)]
        assert getrefcount(found[0]) == getrefcount(Chunk("x", 0, 1)) + 1

    def test_is_missing_where_it_has_nothing_new(self, functions):
        found = functions.recursive_values(Chunk, "aa b ", 4, 2, [" ", ""], "end", True)
        assert [each.end for each in found] == sorted({each.end for each in found})

    def test_has_separators_between_its_parts_once(self, functions):
        [found] = functions.recursive_values(Chunk, "a,,,b", 4, 0, [","], "")
        assert found == Chunk("a,b", 0, 5)

    @pytest.mark.parametrize("name", ["fixed_values", "recursive_values", "sentence_values"])
    def test_needs_a_size_and_a_smaller_overlap(self, functions, name):
        with pytest.raises(ValueError, match=r"^size: 0 is less than 1$"):
            getattr(functions, name)(Chunk, "a", 0)
        with pytest.raises(ValueError, match=r"^overlap: 3 is not from 0 to 2"):
            getattr(functions, name)(Chunk, "a", 3, 3)


texts = st.lists(st.sampled_from([*"abcé語🦜. !\n,", "  ", "\n\n", "word", "\u2003"])).map("".join)


@pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")
@given(texts, st.integers(1, 12), st.integers(0, 11), st.sampled_from(["start", "end", ""]))
@settings(max_examples=200)
def test_both_give_the_same_values(text, size, overlap, keep):
    how = (Chunk, text, size, min(overlap, size - 1))
    separators = ["\n\n", "\n", ",", " ", ""]
    assert native.fixed_values(*how) == values.fixed_values(*how)
    assert native.sentence_values(*how) == values.sentence_values(*how)
    for strip in (True, False):
        cut = (*how, separators, keep, strip)
        assert native.recursive_values(*cut) == values.recursive_values(*cut)
