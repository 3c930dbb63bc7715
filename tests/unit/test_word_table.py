"""Words in memory, against BM25 as it is written down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from servers.kernel.vectors import words
from servers.kernel.vectors.word_table import WordTable

said = st.lists(st.sampled_from(["fox", "dog", "hen", "fox fox dog", "owl"]), min_size=1)


def plainly(texts: dict[tuple[str, int], str], asked: list[str]) -> dict[tuple[str, int], float]:
    scores = dict.fromkeys(texts, 0.0)
    for word in asked:
        having = [place for place, text in texts.items() if word in words.words(text)]
        for place in having:
            rarity = words.rarity(len(having), len(texts))
            scores[place] += words.weights(texts[place])[word] * rarity
    return {place: pytest.approx(score) for place, score in scores.items() if score}


@given(st.dictionaries(st.sampled_from("uvwxyz"), said), st.sets(st.sampled_from("uvwxyz")))
def test_of_the_versions_that_are_seen_those_with_the_words_are_found(versions, gone):
    table, asked = WordTable(), ["fox", "hen", "cow"]
    for version, texts in versions.items():
        table.add(version, [words.numbered(words.weights(each)) for each in texts])
    table.drop(gone & versions.keys())
    seen = [each for each in versions if each not in gone][:3]
    texts = {(v, n): text for v in seen for n, text in enumerate(versions[v])}
    assert dict(table.best(seen, asked, 100)) == plainly(texts, asked)
    assert set(table.lacking("uvwxyz")) == set("uvwxyz") - (versions.keys() - gone)


def test_no_more_than_asked_for_but_those_as_good_as_the_last():
    table = WordTable()
    table.add("v", [{words.number("fox"): weight} for weight in (1.0, 3.0, 2.0, 2.0, 0.5)])
    assert [place for place, _ in table.best(["v"], ["fox"], 2)] == [("v", 1), ("v", 2), ("v", 3)]


def test_what_is_gone_is_not_held_for_ever():
    table, fox = WordTable(), words.number("fox")
    for number in range(100):
        table.add(f"v{number}", [{fox: 1.0}])
        table.keep({f"v{number}"})
    assert table.held() < 10
