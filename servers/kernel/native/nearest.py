"""What the compiled search for near rows means. Slow, obvious, always there.

Three metrics: "cosine" and "dot", where more is better, and "l2", the Euclidean distance, where
less is. Of equal scores the lower row comes first. A row of zeros has no direction: its cosine is
0, and so is every cosine of a query of zeros. A row with a NaN or an infinity in it is far from
everything: its cosine is 0, its product minus infinity, its distance infinity.
"""

from dataclasses import dataclass
from math import fsum, isfinite, sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

METRICS = ("cosine", "dot", "l2")
MOST_CODES = 65536  # numbers of a coded vector: sums of products stay within 32 bits

Found: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]
Terms: TypeAlias = tuple[float, float, float]


def top_k(
    queries: ArrayLike, rows: ArrayLike, k: int, metric: str = "cosine", threads: int = 1
) -> Found:
    """The k rows nearest to each query: row numbers and scores, both of shape (queries, k).

    Best first; there are fewer than k where there are fewer rows. Rows are taken as float32, or
    as float16 where they are; scores are of those numbers, computed in double. `threads`: how
    many may work on it, which changes nothing but the time. Raises ValueError for k or threads
    below 1, an unknown metric, shapes that don't agree and queries that aren't finite.
    """
    _check_threads(threads)
    wanted, matrix = _checked(queries, rows, k, metric)
    listed = matrix.astype(np.float64).tolist()
    return _found(
        [[(i, score_of(_terms(query, row), query, metric)) for i, row in enumerate(listed)]
         for query in wanted.astype(np.float64).tolist()], k, metric, len(listed),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Codes:
    """Rows as numbers of 8 bits: row i is about `scales[i] * codes[i]`. Made by `quantise`."""

    codes: NDArray[np.int8]
    scales: NDArray[np.float32]  # NaN where a row isn't finite
    squares: NDArray[np.float64]  # of the rows themselves: their lengths, squared
    sums: NDArray[np.int32]  # of the codes


def quantise(rows: ArrayLike) -> Codes:
    """A quarter of float32's memory. Each row is scaled so that its largest number is 127."""
    matrix = np.asarray(rows)
    matrix = matrix if matrix.dtype == np.float16 else np.asarray(matrix, dtype=np.float32)
    if matrix.ndim != 2 or not 0 < matrix.shape[1] <= MOST_CODES:
        raise ValueError(f"quantise: need rows of shape (n, d), d from 1 to {MOST_CODES}")
    count, size = matrix.shape
    codes = np.zeros((count, size), np.int8)
    scales, squares = np.zeros(count, np.float32), np.zeros(count)
    for start in range(0, count, 4096):  # copies stay small
        some = matrix[start : start + 4096].astype(np.float32)
        part = slice(start, start + len(some))
        codes[part], scales[part] = _coded(some)
        squares[part] = np.square(some, dtype=np.float64).sum(axis=1)
    return Codes(codes, scales, squares, codes.sum(axis=1, dtype=np.int32))


def code_top_k(
    queries: ArrayLike,
    codes: ArrayLike,
    scales: ArrayLike,
    squares: ArrayLike,
    sums: ArrayLike,
    k: int,
    metric: str = "cosine",
    threads: int = 1,
) -> Found:
    """`top_k` over the arrays of `Codes`, with queries coded in the same way.

    Products of codes are exact; lengths are those of the vectors themselves.
    """
    _check_threads(threads)
    wanted, matrix = _checked(queries, codes, k, metric, np.int8)
    coded, steps = _coded(wanted)
    row_scales = np.asarray(scales, np.float32).tolist()
    row_squares = np.asarray(squares, np.float64).tolist()
    scored = []
    for query, code, step in zip(
        wanted.astype(np.float64).tolist(), coded.astype(int), steps.tolist(), strict=True
    ):
        own = fsum(x * x for x in query)
        hits = []
        for i, (row, scale, square) in enumerate(
            zip(matrix.astype(int), row_scales, row_squares, strict=True)
        ):
            dot = step * scale * int(code @ row)
            known = square if isfinite(scale) else float("inf")
            terms = dot, known, max(own + known - 2 * dot, 0.0)
            hits.append((i, score_of(terms, query, metric)))
        scored.append(hits)
    return _found(scored, k, metric, len(matrix))


def rescore(
    queries: ArrayLike, rows: ArrayLike, candidates: ArrayLike, k: int, metric: str = "cosine"
) -> Found:
    """The k nearest among the rows that are named for each query, of shape (queries, some)."""
    wanted, matrix = _checked(queries, rows, k, metric)
    some = np.asarray(candidates, np.int64)
    if some.ndim != 2 or len(some) != len(wanted):
        raise ValueError("rescore: need candidates of shape (queries, some)")
    if some.size and (some.min() < 0 or some.max() >= len(matrix)):
        raise ValueError(f"rescore: a candidate is none of the {len(matrix)} rows")
    scored = []
    for query, named in zip(wanted.astype(np.float64).tolist(), some.tolist(), strict=True):
        listed = [(i, matrix[i].astype(np.float64).tolist()) for i in named]
        scored.append([(i, score_of(_terms(query, row), query, metric)) for i, row in listed])
    return _found(scored, k, metric, some.shape[1])


def score_of(terms: Terms, query: list[float], metric: str) -> float:
    dot, squares, difference = terms
    if metric == "dot":
        return dot if isfinite(squares) else -float("inf")
    if metric == "l2":
        return sqrt(difference) if isfinite(squares) else float("inf")
    norms = sqrt(fsum(x * x for x in query)) * sqrt(squares) if isfinite(squares) else 0.0
    return min(max(dot / norms, -1.0), 1.0) if norms else 0.0


def _terms(query: list[float], row: list[float]) -> Terms:
    """Their product, the row's squared length, and their squared distance."""
    if not all(isfinite(x) for x in row):
        return 0.0, float("inf"), float("inf")
    pairs = list(zip(query, row, strict=True))
    return (
        fsum(q * r for q, r in pairs),
        fsum(r * r for r in row),
        fsum((q - r) ** 2 for q, r in pairs),
    )


def _coded(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(rows), axis=1)
    safe = np.where(finite[:, None], rows, np.float32(0))
    scales = np.abs(safe).max(axis=1, initial=0) / np.float32(127)
    divisors = np.where(scales > 0, scales, np.float32(1))[:, None]
    codes = np.clip(np.rint(safe / divisors), -127, 127).astype(np.int8)
    codes[scales == 0] = 0
    return codes, np.where(finite, scales, np.float32(np.nan))


def _found(scored: list[list[tuple[int, float]]], k: int, metric: str, count: int) -> Found:
    sign = 1 if metric == "l2" else -1
    best = [sorted(hits, key=lambda hit: (sign * hit[1], hit[0]))[:k] for hits in scored]
    shape = len(best), min(k, count)
    rows = np.array([[row for row, _ in hits] for hits in best], np.int64).reshape(shape)
    return rows, np.array([[score for _, score in hits] for hits in best]).reshape(shape)


def _check_threads(threads: int) -> None:
    if threads < 1:
        raise ValueError(f"threads: {threads} is less than 1")


def _checked(
    queries: ArrayLike, rows: ArrayLike, k: int, metric: str, dtype: Any = None
) -> tuple[NDArray[np.float32], NDArray[Any]]:
    if k < 1:
        raise ValueError(f"k: {k} is less than 1")
    if metric not in METRICS:
        raise ValueError(f"metric: {metric!r} is none of {', '.join(METRICS)}")
    wanted = np.asarray(queries, dtype=np.float32)
    matrix = np.asarray(rows, dtype)
    if dtype is None and matrix.dtype != np.float16:
        matrix = np.asarray(matrix, dtype=np.float32)
    is_empty = matrix.ndim > 0 and matrix.shape[0] == 0
    agree = wanted.ndim == 2 and (
        is_empty or (matrix.ndim == 2 and matrix.shape[1] == wanted.shape[1])
    )
    if not agree or wanted.shape[1] == 0:
        raise ValueError("need queries of shape (b, d) and rows of shape (n, d), d > 0")
    if not np.isfinite(wanted).all():
        raise ValueError("a query holds a NaN or an infinity")
    return wanted, matrix
