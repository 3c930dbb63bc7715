"""One specification of `mmr` and `neighbours`, two implementations."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
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

    def test_passes_by_what_repeats_one_that_was_chosen(self, functions):
        assert [row for row, _ in functions.mmr([1, 0], self.ROWS, 2)] == [0, 2]

    def test_is_only_about_the_query_where_all_is_traded_for_that(self, functions):
        assert [row for row, _ in functions.mmr([1, 0], self.ROWS, 4, 1)] == [0, 1, 2, 3]

    def test_is_only_about_difference_where_all_is_traded_for_that(self, functions):
        assert [row for row, _ in functions.mmr([1, 0], self.ROWS, 2, 0)] == [0, 3]

    def test_tells_the_cosine_with_the_query(self, functions):
        assert functions.mmr([1, 0], [[0, 2], [3, 0]], 2) == [(1, 1.0), (0, 0.0)]

    def test_has_no_more_than_all_rows(self, functions):
        assert len(functions.mmr([1, 0], self.ROWS, 10**9)) == 4

    def test_has_none_where_there_are_none(self, functions):
        assert functions.mmr([1, 0], [], 3) == []

    @pytest.mark.parametrize("k", [0, -3])
    def test_needs_a_number(self, functions, k):
        with pytest.raises(ValueError, match=f"^k: {k} is less than 1$"):
            functions.mmr([1, 0], self.ROWS, k)

    @pytest.mark.parametrize("trade", [-0.1, 1.5, np.nan])
    def test_needs_a_trade_from_0_to_1(self, functions, trade):
        with pytest.raises(ValueError, match=f"^trade: {trade:g} is not from 0 to 1$"):
            functions.mmr([1, 0], self.ROWS, 1, trade)

    def test_needs_shapes_that_agree(self, functions):
        with pytest.raises(ValueError, match=r"^mmr: need query of shape"):
            functions.mmr([1, 0], [[1]], 1)

    def test_needs_a_query_that_is_finite(self, functions):
        with pytest.raises(ValueError, match=r"^mmr: the query holds"):
            functions.mmr([1, np.nan], self.ROWS, 1)


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


@pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")
class TestBoth:
    @given(whole, st.integers(1, 9), st.floats(0, 1))
    @settings(max_examples=50)
    def test_are_equal_on_whole_numbers(self, rows, k, trade):
        assert native.mmr(rows[0], rows[1:], k, trade) == diverse.mmr(rows[0], rows[1:], k, trade)
        assert native.neighbours(rows) == diverse.neighbours(rows)

    @given(numbers)
    def test_neighbours_are_near_on_any_numbers(self, rows):
        assert native.neighbours(rows) == pytest.approx(diverse.neighbours(rows), abs=1e-5)
