import pytest

from bench.choosing import chosen, with_part

KNOWN = ["faiss", "chroma", "chroma server"]


class TestOnly:
    def test_takes_the_names_that_are_known(self):
        assert chosen("faiss;chroma server", ";", KNOWN) == {"faiss", "chroma server"}

    def test_takes_all_where_nothing_is_said(self):
        assert (chosen("", ";", KNOWN), with_part("", KNOWN)) == (frozenset(), KNOWN)

    def test_refuses_a_name_that_is_not_known_and_tells_those_that_are(self):
        with pytest.raises(SystemExit, match=r"'fais': .*'faiss', 'chroma', 'chroma server'"):
            chosen("fais;chroma", ";", KNOWN)

    def test_takes_those_with_a_part_of_a_name(self):
        assert with_part("chroma", KNOWN) == ["chroma", "chroma server"]

    def test_refuses_a_part_that_no_name_has(self):
        with pytest.raises(SystemExit, match=r"'qdrant': .*'faiss', 'chroma', 'chroma server'"):
            with_part("qdrant", KNOWN)
