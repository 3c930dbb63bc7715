"""The measures of retrieval, on rankings whose scores are known."""

import math

import pytest

from servers.cli import rag_plot
from servers.cli.rag_measures import (
    Answered,
    ndcg,
    questions_of,
    recall,
    recalls,
    reciprocal_rank,
    scores,
)
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
    answered = [Answered(["a"], ONE), Answered(["x"], ONE)]
    assert set(scores(answered).values()) == {0.5}
    assert recalls(answered) == [0.5] * 10


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "there is no question in the file"),
        ("\n{", "line 2: it is not JSON"),
        ("[]", "line 1: expected an object"),
        ('{"query": "x"}', "line 1: 'relevant' is missing"),
        ('{"query": " ", "relevant": ["a"]}', "line 1: 'query' is not a text"),
        ('{"query": "x", "relevant": "a"}', "line 1: 'relevant' is not a list"),
        ('{"query": "x", "relevant": [1]}', "line 1: 'relevant' is not a list"),
        ('{"query": "x", "relevant": []}', "line 1: 'relevant' names no document"),
    ],
)
def test_a_line_that_makes_no_sense_is_named_with_what_is_wrong(text, told):
    with pytest.raises(InvalidInput) as refused:
        questions_of(text)
    assert told in refused.value.message


def test_of_many_bad_lines_the_first_five_are_told():
    with pytest.raises(InvalidInput) as refused:
        questions_of("{\n" * 9)
    assert refused.value.message.endswith("and 4 more")
    assert refused.value.message.count("line") == 5 + 5  # JSON's own messages name one, too


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_a_plot_is_a_picture_of_the_kind_its_name_says(tmp_path, ending):
    file = tmp_path / f"recall{ending}"
    rag_plot.check(file)
    rag_plot.write(file, {"_a$b": [0.1, 0.5], "other": [0.2, 0.4]}, "2 questions")
    begins = {".svg": b"<?xml", ".png": b"\x89PNG"}
    assert file.read_bytes().startswith(begins[ending])


def test_the_same_curves_are_the_same_svg(tmp_path):
    for name in ("one.svg", "two.svg"):
        rag_plot.write(tmp_path / name, {"a": [0.1, 0.5]}, "2 questions")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


@pytest.mark.parametrize("name", ["plot", "plot.jpg", "nowhere/plot.svg"])
def test_plots_that_can_t_be_written_are_refused_before_anything_is_asked(tmp_path, name):
    with pytest.raises(InvalidInput):
        rag_plot.check(tmp_path / name)
