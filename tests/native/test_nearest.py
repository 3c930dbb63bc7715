"""One specification of `top_k`, `code_top_k` and `rescore`, two implementations."""

import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from servers.kernel import native
from servers.kernel.native import nearest

IMPLEMENTATIONS = {"python": nearest} | ({"c++": native} if native.COMPILED else {})
compiled_only = pytest.mark.skipif(not native.COMPILED, reason="built without a C++ compiler")
NAN, INF = np.nan, np.inf


@pytest.fixture(params=IMPLEMENTATIONS.values(), ids=IMPLEMENTATIONS)
def functions(request: pytest.FixtureRequest) -> SimpleNamespace:
    return request.param


@pytest.fixture
def top_k(functions):
    return functions.top_k


def listed(found: nearest.Found) -> list[list[tuple[int, float]]]:
    return [
        list(zip(*each, strict=True))
        for each in zip(*(each.tolist() for each in found), strict=True)
    ]


def coded(functions, queries, rows, k, metric="cosine"):
    codes = nearest.quantise(rows)
    arrays = (codes.codes, codes.scales, codes.squares, codes.sums)
    return functions.code_top_k(queries, *arrays, k, metric)


ROWS = [[3, 4], [0, 1], [1, 0], [-3, -4]]


class TestTheAnswer:
    @pytest.mark.parametrize(
        ("metric", "answer"),
        [
            ("cosine", [(1, 1.0), (0, 0.8), (2, 0.0)]),
            ("dot", [(0, 8.0), (1, 2.0), (2, 0.0)]),
            ("l2", [(1, 1.0), (2, 5**0.5), (0, 13**0.5)]),
        ],
    )
    def test_has_the_best_rows_first(self, top_k, metric, answer):
        [found] = listed(top_k([[0, 2]], ROWS, 3, metric))
        assert [row for row, _ in found] == [row for row, _ in answer]
        assert [score for _, score in found] == pytest.approx([score for _, score in answer])

    def test_is_one_for_each_query(self, top_k):
        rows, scores = top_k([[0, 2], [1, 0], [-1, -1]], ROWS, 1)
        assert rows.tolist() == [[1], [2], [3]]
        assert (rows.dtype, scores.dtype, scores.shape) == (np.int64, np.float64, (3, 1))

    @pytest.mark.parametrize("metric", nearest.METRICS)
    @pytest.mark.parametrize("queries", [1, 2, 5])
    def test_has_the_lower_of_equal_rows_first(self, top_k, metric, queries):
        rows = np.tile(np.arange(1, 8, dtype=np.float32) / 7, (9, 1))
        found, scores = top_k(rows[:queries], rows, 4, metric)
        assert found.tolist() == [[0, 1, 2, 3]] * queries
        assert np.unique(scores).size == 1

    def test_has_no_more_than_all_rows(self, top_k):
        assert top_k([[1, 1]], ROWS, 10**9)[0].shape == (1, 4)

    @pytest.mark.parametrize("rows", [[], np.zeros((0, 2))], ids=["list", "array"])
    def test_is_empty_where_there_are_no_rows(self, top_k, rows):
        assert top_k([[1, 2]], rows, 5)[0].shape == (1, 0)

    def test_is_empty_where_there_are_no_queries(self, top_k):
        assert top_k(np.zeros((0, 2)), ROWS, 3)[0].shape == (0, 3)


class TestWhatIsAskedFor:
    @pytest.mark.parametrize("k", [0, -1])
    def test_is_one_row_at_least(self, top_k, k):
        with pytest.raises(ValueError, match=f"^k: {k} is less than 1$"):
            top_k([[1]], [[1]], k)

    def test_is_found_by_one_thread_at_least(self, top_k):
        with pytest.raises(ValueError, match=r"threads: 0 is less than 1"):
            top_k([[1]], [[1]], 1, threads=0)

    def test_has_a_known_metric(self, top_k):
        with pytest.raises(ValueError, match=r"^metric: 'L1' is none of cosine, dot, l2$"):
            top_k([[1]], [[1]], 1, "L1")

    @pytest.mark.parametrize(
        ("queries", "rows"),
        [([1, 2], [[1, 2]]), ([[1, 2]], [1, 2]), ([[1, 2]], [[1]]), ([[]], [[]]), ([[1]], 3)],
        ids=str,
    )
    def test_has_shapes_that_agree(self, top_k, queries, rows):
        with pytest.raises(ValueError, match=r"need queries of shape"):
            top_k(queries, rows, 1)

    @pytest.mark.parametrize("value", [NAN, INF, -INF])
    def test_has_queries_that_are_finite(self, top_k, value):
        with pytest.raises(ValueError, match=r"^a query holds a NaN or an infinity$"):
            top_k([[1, 1], [value, 1]], ROWS, 1)


class TestARow:
    @pytest.mark.parametrize("coder", ["plain", "coded"])
    @pytest.mark.parametrize("row", [[NAN, 1], [INF, 1], [INF, -INF]], ids=str)
    @pytest.mark.parametrize(("metric", "score"), [("cosine", 0), ("dot", -INF), ("l2", INF)])
    def test_that_is_not_finite_is_far_from_everything(self, functions, coder, row, metric, score):
        search = functions.top_k if coder == "plain" else lambda *given: coded(functions, *given)
        for queries in ([[1, 1]], [[1, 1]] * 3):
            found = listed(search(queries, [row, [1, 1]], 2, metric))
            assert [[hit[0] for hit in hits] for hits in found] == [[1, 0]] * len(queries)
            assert found[0][1] == (0, score)

    @pytest.mark.parametrize("coder", ["plain", "coded"])
    def test_of_zeros_is_like_nothing(self, functions, coder):
        search = functions.top_k if coder == "plain" else lambda *given: coded(functions, *given)
        assert listed(search([[1, 1]], [[0, 0], [-1, -1]], 2)) == [
            [(0, 0.0), (1, pytest.approx(-1))]
        ]

    @pytest.mark.parametrize("length", [1e-45, 1e-38, 1e-30, 1.0, 1e30, 1e38])
    @pytest.mark.parametrize("other", [1e-38, 1.0, 1e38])
    def test_has_a_direction_however_long_it_is(self, top_k, length, other):
        for queries in ([[other, other]], [[other, other]] * 2):
            _, scores = top_k(queries, [[length, 0]], 1)
            assert scores[0, 0] == pytest.approx(0.5**0.5)


def test_a_query_of_zeros_is_like_nothing(functions):
    for search in (functions.top_k, lambda *given: coded(functions, *given)):
        assert listed(search([[0, 0]], ROWS, 2)) == [[(0, 0.0), (1, 0.0)]]


class TestAnArray:
    RNG = np.random.default_rng(7)
    ROWS = RNG.standard_normal((40, 24)).astype(np.float32)

    @pytest.mark.parametrize(
        "rows",
        [
            np.asfortranarray(ROWS),
            np.repeat(ROWS, 2, axis=0)[::2],
            np.repeat(ROWS, 2, axis=1)[:, ::2],
            ROWS[::-1].copy()[::-1],
            ROWS.astype(np.float64),
            ROWS.tolist(),
            np.frombuffer(b"\0" + ROWS.tobytes(), np.uint8)[1:].view(np.float32).reshape(40, 24),
        ],
        ids=["fortran", "every second", "columns", "reversed", "float64", "list", "unaligned"],
    )
    def test_of_any_layout_is_taken(self, top_k, rows):
        plain, given = top_k(self.ROWS[:3], self.ROWS, 5), top_k(self.ROWS[:3], rows, 5)
        assert plain[0].tolist() == given[0].tolist()
        assert plain[1].tolist() == given[1].tolist()

    def test_of_float16_is_searched_as_it_is(self, top_k):
        halves = self.ROWS.astype(np.float16)
        for rows in (halves, np.repeat(halves, 2, axis=1)[:, ::2]):
            found, scores = top_k(self.ROWS[:3], rows, 5)
            exact = top_k(self.ROWS[:3], halves.astype(np.float32), 5)
            assert found.tolist() == exact[0].tolist()
            assert scores == pytest.approx(exact[1])

    def test_of_float16_has_all_its_numbers(self, top_k):
        every = np.arange(2**16, dtype=np.uint16).view(np.float16)
        finite = every[np.isfinite(every)][:, None]
        if top_k is nearest.top_k:
            finite = finite[::97]
        rows, scores = top_k([[1]], finite, len(finite), "dot")
        assert np.array_equal(scores[0], finite[rows[0], 0])
        assert np.array_equal(np.sort(rows[0]), np.arange(len(finite)))


class TestCodes:
    def test_are_the_row_scaled_to_127(self):
        codes = nearest.quantise([[2, -1, 0], [0, 0, 0]])
        assert codes.codes.tolist() == [[127, -64, 0], [0, 0, 0]]
        assert codes.scales.tolist() == pytest.approx([2 / 127, 0])
        assert codes.squares.tolist() == [5, 0]
        assert codes.sums.tolist() == [63, 0]

    @pytest.mark.parametrize("rows", [[1, 2], [[]], np.zeros((1, 65537))], ids=["1", "0", "wide"])
    def test_need_rows(self, rows):
        with pytest.raises(ValueError, match=r"^quantise: need rows of shape"):
            nearest.quantise(rows)

    def test_find_what_the_rows_do(self, functions):
        dice = np.random.default_rng(1)
        rows = dice.standard_normal((60, 130)).astype(np.float32)
        queries = rows[:5] + 0.1
        for metric in nearest.METRICS:
            assert coded(functions, queries, rows, 1, metric)[0].tolist() == [[i] for i in range(5)]

    @compiled_only
    def test_must_be_those_of_quantise(self):
        codes = nearest.quantise(ROWS)
        with pytest.raises(ValueError, match="are not those that quantise gives"):
            native.code_top_k([[1, 1]], codes.codes, [1.0], codes.squares, codes.sums, 1)


class TestCandidates:
    def test_are_scored_by_the_rows_themselves(self, functions):
        found = functions.rescore([[0, 2], [1, 0]], ROWS, [[3, 0, 2], [2, 1, 1]], 2)
        assert listed(found) == [
            [(0, pytest.approx(0.8)), (2, 0.0)],
            [(2, 1.0), (1, 0.0)],
        ]

    @pytest.mark.parametrize("row", [-1, 4])
    def test_are_rows_that_there_are(self, functions, row):
        with pytest.raises(ValueError, match=r"^rescore: a candidate is none of the 4 rows$"):
            functions.rescore([[0, 2]], ROWS, [[0, row]], 1)

    def test_are_as_many_for_each_query(self, functions):
        with pytest.raises(ValueError, match=r"^rescore: need candidates of shape"):
            functions.rescore([[0, 2]], ROWS, [0, 1], 1)


def problems(elements, most=14):
    """Queries and rows whose sizes are near the widths of the SIMD loops."""
    sizes = st.sampled_from([1, 2, 7, 8, 9, 15, 17, 31, 33, 64, 65, 130])
    return st.tuples(sizes, st.sampled_from([1, 2, 4, 5, 17]), st.integers(0, most)).flatmap(
        lambda n: st.tuples(
            arrays.arrays(np.float32, (n[1], n[0]), elements=elements),
            arrays.arrays(np.float32, (n[2], n[0]), elements=elements),
        )
    )


whole = st.integers(-9, 9).map(float)


@compiled_only
class TestBoth:
    @given(problems(whole), st.integers(1, 16), st.sampled_from(nearest.METRICS), st.booleans())
    @settings(max_examples=100)
    def test_are_equal_on_whole_numbers(self, problem, k, metric, half):
        queries, rows = problem
        rows = rows.astype(np.float16) if half else rows
        assert listed(native.top_k(queries, rows, k, metric)) == listed(
            nearest.top_k(queries, rows, k, metric)
        )

    @given(
        problems(st.floats(width=32, allow_nan=False, allow_infinity=False) | whole),
        st.sampled_from(nearest.METRICS),
    )
    @settings(max_examples=60)
    def test_have_the_same_scores_on_any_numbers(self, problem, metric):
        queries, rows = problem
        compiled = native.top_k(queries, rows, len(rows) or 1, metric)[1]
        largest = float(np.abs(rows).max(initial=1)) * float(np.abs(queries).max(initial=1))
        assert compiled == pytest.approx(
            nearest.top_k(queries, rows, len(rows) or 1, metric)[1],
            rel=1e-12,
            abs=1e-12 * (largest if metric == "dot" else 1),
        )

    @given(problems(whole), st.integers(1, 16), st.sampled_from(nearest.METRICS))
    @settings(max_examples=60)
    def test_have_the_same_scores_of_codes(self, problem, k, metric):
        queries, rows = problem
        mine, theirs = (
            coded(native, queries, rows, k, metric),
            coded(nearest, queries, rows, k, metric),
        )
        assert mine[1] == pytest.approx(theirs[1], rel=1e-12, abs=1e-6)

    @given(problems(st.floats(-10, 10, width=32), most=30), st.integers(1, 5))
    def test_say_the_same_for_k_and_for_all_cut_at_k(self, problem, k):
        queries, rows = problem
        for metric in nearest.METRICS:
            some, every = (
                native.top_k(queries, rows, k, metric),
                native.top_k(queries, rows, 100, metric),
            )
            assert some[0].tolist() == every[0][:, :k].tolist()
            assert some[1].tolist() == every[1][:, :k].tolist()


@compiled_only
class TestManyRows:
    """Enough for several blocks, and sizes beyond one block of the sums."""

    @pytest.mark.parametrize("dtype", [np.float32, np.float16])
    @pytest.mark.parametrize(("count", "size"), [(3000, 100), (700, 384), (60, 5000)])
    @pytest.mark.parametrize("metric", nearest.METRICS)
    def test_the_best_are_those_of_numpy(self, dtype, count, size, metric):
        dice = np.random.default_rng(count)
        rows = (dice.standard_normal((count, size)) + 0.3).astype(dtype)
        queries = dice.standard_normal((7, size)).astype(np.float32)
        exact, q = rows.astype(np.float64), queries.astype(np.float64)
        dots = q @ exact.T
        lengths = np.linalg.norm(exact, axis=1)
        scores = {
            "dot": dots,
            "cosine": dots / lengths / np.linalg.norm(q, axis=1)[:, None],
            "l2": -np.sqrt(np.square(exact[None] - q[:, None]).sum(axis=2)),
        }[metric]
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        for some in (slice(0, 7), slice(2, 3)):  # together, and one alone
            assert native.top_k(queries[some], rows, 10, metric)[0].tolist() == best[some].tolist()

    @pytest.mark.parametrize("metric", nearest.METRICS)
    def test_a_query_is_answered_as_it_would_be_alone(self, metric):
        dice = np.random.default_rng(3)
        rows = dice.standard_normal((2000, 70)).astype(np.float32)
        together = native.top_k(rows[:9], rows, 10, metric)
        for i in range(9):
            alone = native.top_k(rows[i : i + 1], rows, 10, metric)
            assert together[0][i].tolist() == alone[0][0].tolist()
            assert together[1][i].tolist() == alone[1][0].tolist()

    @pytest.mark.parametrize("threads", [2, 3, 64])
    @pytest.mark.parametrize("metric", nearest.METRICS)
    def test_are_searched_by_several_threads_as_by_one(self, metric, threads):
        dice = np.random.default_rng(7)
        rows = dice.integers(-2, 3, (30_000, 60)).astype(np.float32)  # with many ties
        queries = dice.integers(-2, 3, (5, 60)).astype(np.float32)
        codes = nearest.quantise(rows)
        coded_rows = codes.codes, codes.scales, codes.squares, codes.sums
        for some in (queries, queries[:1]):
            assert listed(native.top_k(some, rows, 50, metric, threads=threads)) == listed(
                native.top_k(some, rows, 50, metric)
            )
            assert listed(
                native.code_top_k(some, *coded_rows, 50, metric, threads=threads)
            ) == listed(native.code_top_k(some, *coded_rows, 50, metric))

    def test_codes_and_rows_together_find_the_best(self):
        dice = np.random.default_rng(5)
        rows = dice.standard_normal((4000, 384)).astype(np.float32)
        queries = dice.standard_normal((20, 384)).astype(np.float32)
        candidates = coded(native, queries, rows, 40)[0]
        found = native.rescore(queries, rows, candidates, 10)
        assert found[0].tolist() == native.top_k(queries, rows, 10)[0].tolist()

    def test_other_threads_go_on_meanwhile(self):
        rows = np.ones((40_000, 64), dtype=np.float32)
        before = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        try:
            assert sum(self._is_here_before_the_end(rows) for _ in range(30)) > 3
        finally:
            sys.setswitchinterval(before)

    @staticmethod
    def _is_here_before_the_end(rows: np.ndarray) -> bool:
        begun, ended = threading.Event(), threading.Event()

        def searching() -> None:
            begun.set()
            native.top_k(rows[:2], rows, 1)
            ended.set()

        thread = threading.Thread(target=searching)
        thread.start()
        begun.wait()
        first = not ended.is_set()
        thread.join()
        return first
