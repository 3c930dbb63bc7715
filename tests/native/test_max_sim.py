"""One specification of `max_sim`, two implementations."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from servers.kernel import native
from servers.kernel.native import late_interaction

IMPLEMENTATIONS = {"python": late_interaction} | ({"c++": native} if native.COMPILED else {})
INF = np.inf


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def max_sim(request: pytest.FixtureRequest):
    functions: SimpleNamespace = request.param
    return functions.max_sim


class TestTheAnswer:
    def test_is_the_best_cosine_of_each_row_of_the_query(self, max_sim):
        found = max_sim([[3, 4], [0, -2], [0, 0]], [[1, 0], [0, 5], [6, 8]])
        assert found.tolist() == pytest.approx([1, 0, 0])
        assert found.dtype == np.float32

    @pytest.mark.parametrize("asked", [0, 1, 16, 17, 32, 50])
    @pytest.mark.parametrize("count", [1, 7, 40])
    def test_is_numpys(self, max_sim, asked, count):
        dice = np.random.default_rng(asked)
        query = dice.standard_normal((asked, 75)).astype(np.float32)
        rows = dice.standard_normal((count, 75)).astype(np.float32)
        cosines = query @ rows.T / np.linalg.norm(query, axis=1)[:, None]
        best = (cosines / np.linalg.norm(rows, axis=1)).max(axis=1)
        np.testing.assert_allclose(max_sim(query, rows), best, atol=1e-5)

    @pytest.mark.parametrize("rows", [[], np.zeros((0, 2))], ids=["list", "array"])
    def test_is_the_least_there_is_without_rows(self, max_sim, rows):
        assert max_sim([[1, 2], [0, 0]], rows).tolist() == [-1, -1]

    @pytest.mark.parametrize("row", [[0, 0], [np.nan, 1], [INF, 1], [INF, -INF]], ids=str)
    def test_takes_a_row_without_a_direction_for_unlike_all(self, max_sim, row):
        assert max_sim([[1, 1]], [row, [-1, -1]]).tolist() == [0]
        assert max_sim([[1, 1]], [row, [2, 2]]).tolist() == pytest.approx([1])

    @pytest.mark.parametrize("length", [1e-45, 1e-38, 1e-30, 1e30, 3e38])
    def test_does_not_depend_on_lengths(self, max_sim, length):
        assert max_sim([[length, length]], [[1, 0]]).tolist() == pytest.approx([0.5**0.5])
        assert max_sim([[1, 1]], [[length, 0]]).tolist() == pytest.approx([0.5**0.5])


class TestWhatIsAskedFor:
    @pytest.mark.parametrize(
        ("query", "rows"),
        [([1, 2], [[1, 2]]), ([[1, 2]], [1, 2]), ([[1, 2]], [[1]]), ([[]], [[]]), ([[1]], 3)],
        ids=str,
    )
    def test_has_shapes_that_agree(self, max_sim, query, rows):
        with pytest.raises(ValueError, match=r"^max_sim: need a query of shape"):
            max_sim(query, rows)

    @pytest.mark.parametrize("value", [np.nan, INF])
    def test_is_finite(self, max_sim, value):
        with pytest.raises(ValueError, match=r"^max_sim: the query holds"):
            max_sim([[1, 1], [value, 1]], [[1, 1]])


@pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")
@given(
    arrays.arrays(np.float32, (18, 5), elements=st.floats(-(2.0**60), 2.0**60, width=32)),
    arrays.arrays(np.float32, (9, 5), elements=st.floats(width=32)),
)
@settings(max_examples=100)
def test_both_are_near_on_any_numbers(query, rows):
    np.testing.assert_allclose(
        native.max_sim(query, rows), late_interaction.max_sim(query, rows), atol=1e-5
    )
