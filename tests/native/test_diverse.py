"""One specification of `mmr` and `neighbours`, two implementations."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from servers.kernel import native
from servers.kernel.native import diverse

IMPLEMENTATIONS = {"python": diverse} | ({"c++": native} if native.COMPILED else {})


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def functions(request: pytest.FixtureRequest) -> SimpleNamespace:
    return request.param


class TestMmr:
    ROWS = ((10, 1), (10, 1), (5, -5), (-1, 0))
    LIKE = (0.995, 0.995, 0.707, -1.0)  # their cosines with (1, 0)

    def test_passes_by_what_repeats_one_that_was_chosen(self, functions):
        assert functions.mmr(self.LIKE, self.ROWS, 2) == [0, 2]

    def test_is_only_about_relevance_where_all_is_traded_for_that(self, functions):
        assert functions.mmr(self.LIKE, self.ROWS, 4, 1) == [0, 1, 2, 3]

    def test_is_only_about_difference_where_all_is_traded_for_that(self, functions):
        assert functions.mmr(self.LIKE, self.ROWS, 2, 0) == [0, 3]

    def test_takes_any_scores_for_relevance(self, functions):
        assert functions.mmr([-4, 90, 7.5, 0], self.ROWS, 4, 1) == [1, 2, 3, 0]

    def test_has_no_more_than_all_rows(self, functions):
        assert sorted(functions.mmr(self.LIKE, self.ROWS, 10**9)) == [0, 1, 2, 3]

    @pytest.mark.parametrize("rows", [[], np.zeros((0, 3))], ids=["list", "array"])
    def test_has_none_where_there_are_none(self, functions, rows):
        assert functions.mmr([], rows, 3) == []

    @pytest.mark.parametrize("row", [[0, 0], [np.nan, 1], [np.inf, 1]], ids=str)
    def test_takes_a_row_without_a_direction_for_unlike_all(self, functions, row):
        assert functions.mmr([1, 0.5, 0.5], [[1, 0], [1, 0], row], 3) == [0, 2, 1]

    @pytest.mark.parametrize("k", [0, -3])
    def test_needs_a_number(self, functions, k):
        with pytest.raises(ValueError, match=f"^k: {k} is less than 1$"):
            functions.mmr(self.LIKE, self.ROWS, k)

    @pytest.mark.parametrize("trade", [-0.1, 1.5, np.nan])
    def test_needs_a_trade_from_0_to_1(self, functions, trade):
        with pytest.raises(ValueError, match=f"^trade: {trade:g} is not from 0 to 1$"):
            functions.mmr(self.LIKE, self.ROWS, 1, trade)

    @pytest.mark.parametrize(
        ("relevance", "rows"),
        [([1], ROWS), ([1], []), ([[1]], [[1]]), (1, [[1]]), ([1], [1]), ([1], [[]])],
        ids=str,
    )
    def test_needs_shapes_that_agree(self, functions, relevance, rows):
        with pytest.raises(ValueError, match=r"^mmr: need relevance of shape"):
            functions.mmr(relevance, rows, 1)

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_needs_a_relevance_that_is_finite(self, functions, value):
        with pytest.raises(ValueError, match=r"^mmr: the relevance of a row"):
            functions.mmr([1, value], [[1], [2]], 1)


class TestNeighbours:
    def test_are_each_row_and_the_next(self, functions):
        assert functions.neighbours([[1, 0], [2, 0], [0, 1], [0, -1]]) == [1.0, 0.0, -1.0]

    @pytest.mark.parametrize("rows", [[], [[1, 2]], np.zeros((0, 3))], ids=["[]", "one", "array"])
    def test_are_none_where_there_are_not_two_rows(self, functions, rows):
        assert functions.neighbours(rows) == []

    @pytest.mark.parametrize("row", [[0, 0], [np.nan, 1], [np.inf, 1]], ids=str)
    def test_of_a_row_without_a_direction_are_like_nothing(self, functions, row):
        assert functions.neighbours([[1, 1], row, [1, 1]]) == [0.0, 0.0]

    @pytest.mark.parametrize("rows", [[1, 2], [[]]], ids=str)
    def test_need_rows(self, functions, rows):
        with pytest.raises(ValueError, match=r"^neighbours: need rows of shape"):
            functions.neighbours(rows)


whole = arrays.arrays(np.float32, (6, 33), elements=st.integers(-9, 9).map(float))
numbers = arrays.arrays(np.float32, (5, 9), elements=st.floats(width=32))
scores = arrays.arrays(np.float64, 6, elements=st.floats(-1, 1))


def gains(relevance, rows, chosen, trade):
    """What each row would bring after those that are chosen, as the textbook has it."""
    rows = rows.astype(np.float64)
    lengths = np.linalg.norm(rows, axis=1)
    with np.errstate(invalid="ignore"):
        cosines = np.nan_to_num(rows @ rows[chosen].T / np.outer(lengths, lengths[chosen]))
    repeats = cosines.max(axis=1) if chosen else np.zeros(len(rows))
    return trade * relevance - (1 - trade) * repeats


class TestAnyNumbers:
    @given(
        arrays.arrays(np.float32, (6, 9), elements=st.floats(-1e6, 1e6, width=32)),
        scores,
        st.floats(0, 1),
    )
    @settings(max_examples=50)
    def test_let_mmr_choose_one_of_the_best_each_time(self, rows, relevance, trade):
        rows[np.linalg.norm(rows, axis=1) < 1e-3] = 0
        for functions in IMPLEMENTATIONS.values():
            order = functions.mmr(relevance, rows, 6, trade)
            assert sorted(order) == list(range(6))
            for place, row in enumerate(order):
                could = gains(relevance, rows, order[:place], trade)
                could[order[:place]] = -np.inf
                assert could[row] >= could.max() - 1e-5

    @given(
        arrays.arrays(np.float32, (8, 5), elements=st.integers(-9, 9).map(float)),
        st.integers(1, 7),
        st.floats(0.01, 1),
    )
    @settings(max_examples=50)
    def test_give_langchains_choice(self, rows, k, trade):
        from langchain_core.vectorstores.utils import maximal_marginal_relevance

        query, rows = rows[0], rows[1:]
        assume(query.any() and (np.abs(rows).sum(axis=1) > 0).all())
        like = [score for _, score in sorted(native.rank(query, rows, len(rows)))]
        theirs = maximal_marginal_relevance(query, list(rows), trade, k)
        ours = native.mmr(like, rows, k, trade)
        # Of those that are as good it takes what rounding leaves it.
        for place, (own, other) in enumerate(zip(ours, theirs, strict=True)):
            could = gains(np.array(like), rows, ours[:place], trade)
            assert could[own] == pytest.approx(could[other], abs=1e-5)
            if own != other:
                return


@pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")
class TestBoth:
    @given(whole, scores, st.integers(1, 9), st.floats(0, 1))
    @settings(max_examples=50)
    def test_are_equal_on_whole_numbers(self, rows, relevance, k, trade):
        assert native.mmr(relevance, rows, k, trade) == diverse.mmr(relevance, rows, k, trade)
        assert native.neighbours(rows) == diverse.neighbours(rows)

    @given(numbers)
    def test_neighbours_are_near_on_any_numbers(self, rows):
        assert native.neighbours(rows) == pytest.approx(diverse.neighbours(rows), abs=1e-5)
