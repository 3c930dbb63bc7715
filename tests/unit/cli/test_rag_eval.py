"""The measures of retrieval, on rankings whose scores are known."""

import math

import pytest

from servers.cli.rag_eval import ndcg, questions_of, recall, reciprocal_rank, scores
from servers.kernel.errors import InvalidInput

ONE, TWO = frozenset({"a"}), frozenset({"a", "b"})


def test_recall_is_the_share_of_the_relevant_ones_that_were_found():
    assert [recall(["x", "a", "b"], TWO, k) for k in (1, 2, 3, 10)] == [0, 0.5, 1, 1]


@pytest.mark.parametrize(
    ("ranked", "relevant", "expected"),
    [
        (["a", "b"], TWO, 1.0),
        (["x", "a"], ONE, 1 / math.log2(3)),
        (["a", "x", "b"], TWO, (1 + 0.5) / (1 + 1 / math.log2(3))),
        (["x"], ONE, 0.0),
        ([*"cdefghijkl", "a"], ONE, 0.0),
    ],
)
def test_ndcg_discounts_by_rank(ranked, relevant, expected):
    assert ndcg(ranked, relevant, 10) == pytest.approx(expected)


def test_the_reciprocal_rank_is_that_of_the_first_relevant_one():
    assert [reciprocal_rank(r, TWO) for r in (["a"], ["x", "b", "a"], ["x"], [])] == [1, 0.5, 0, 0]


def test_scores_are_means_over_the_questions():
    found = scores([(["a"], ONE), (["x"], ONE)])
    assert set(found.values()) == {0.5}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"query": "x"}',
        '{"query": "", "relevant": ["a"]}',
        '{"query": "x", "relevant": []}',
    ],
)
def test_files_of_questions_that_make_no_sense_are_refused(text):
    with pytest.raises(InvalidInput):
        questions_of(text)
