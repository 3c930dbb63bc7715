"""What vector stores find by words, each of them alike."""

import math
import re
import unicodedata
from dataclasses import replace

import pytest

from servers.kernel.vectors.ports import Scope
from tests.contract.store_fixture import ODD, backend, store
from tests.contract.vector_fixture import ACME, EAST, points, record

__all__ = ["backend", "store"]
TEXTS = {
    "a": "The quick brown fox jumps over the lazy dog. The dog sleeps.",
    "b": "A lazy dog, lazy as dogs are",
    "c": "Fox and dog and FOX and fox_trot; stra\u00dfe \u65e5\u672c",
    "d": "the the the the the",
    "e": "Nothing of it: STRASSE, \ufb01sh & 42 chips",
    "f": "fox " + "filler " * 300,
    "g": "!?",
}


def bm25(texts: dict[str, str], query: str) -> list[str]:
    """As the textbook has it, over texts as they are; all of one length where it matters not."""
    words = {
        name: re.findall(r"[\u3040-\u9fff]|[a-z0-9]+", _plain(text)) for name, text in texts.items()
    }
    scores = {}
    for name, said in words.items():
        for word in set(re.findall(r"[\u3040-\u9fff]|[a-z0-9]+", _plain(query))):
            having = sum(word in each for each in words.values())
            idf = math.log(1 + (len(words) - having + 0.5) / (having + 0.5))
            n, length = said.count(word), len(said) / 160
            if n:
                weight = idf * n * 2.2 / (n + 1.2 * (0.25 + 0.75 * length))
                scores[name] = scores.get(name, 0) + weight
    return sorted(scores, key=lambda name: (-round(scores[name], 4), name))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


class TestKeywords:
    @pytest.fixture
    async def filled(self, store):
        for n, (name, text) in enumerate(TEXTS.items()):
            acl = ("alice",) if name == "c" else ()
            point = replace(points(EAST)[0], text=text)
            kept = record(name, acl=acl, metadata={"even": n % 2 == 0})
            await store.replace("acme", kept, [point])
            # What is out of scope is not counted.
            await store.replace("other", record(name), [replace(point, text="fox lazy 42")])
        return store

    @pytest.mark.parametrize(
        "query",
        [
            "fox",
            "Fox dog",
            "the fox",
            "lazy the",
            "stra\u00dfe",
            "\u65e5",
            "fish 42 dog",
            "fox FOX",
        ],
    )
    async def test_are_ranked_as_bm25_has_it(self, filled, query):
        for scope, where in [
            (ACME, {}),
            (Scope("acme", "alice"), {"even": True}),
            (Scope("acme", "bob"), {}),
        ]:
            seen = {
                name: text
                for n, (name, text) in enumerate(TEXTS.items())
                if (not where or n % 2 == 0) and not (name == "c" and scope.principal == "bob")
            }
            found = await filled.keywords(scope, query, 10, where)
            assert [each.record.id for each in found] == bm25(seen, query)
            assert {each.similarity for each in found} <= {0.0}
            assert [each.text for each in found] == [TEXTS[each.record.id] for each in found]

    @pytest.mark.parametrize("query", ["!?", "", "nothingness", ODD.replace("TABLE", "")])
    async def test_that_no_text_has_find_nothing(self, filled, query):
        assert await filled.keywords(ACME, query, 10, {}) == []

    async def test_of_texts_that_are_gone_find_nothing(self, filled):
        await filled.replace("acme", record("b"), points(EAST, text="another"))
        await filled.delete("acme", "a")
        assert await filled.keywords(ACME, "lazy", 10, {}) == []
        assert await filled.keywords(ACME, "another", 1, {}) != []

    async def test_find_nothing_before_anything_is_prepared(self, backend):
        async with backend.open() as store:
            assert await store.keywords(ACME, "fox", 10, {}) == []
