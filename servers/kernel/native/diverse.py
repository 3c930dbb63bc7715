"""What the compiled functions mean that compare rows with one another."""

from itertools import pairwise
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from servers.kernel.native.reference import cosine


def mmr(relevance: ArrayLike, rows: ArrayLike, k: int, trade: float = 0.5) -> list[int]:
    """Up to k rows that are relevant and unlike one another: maximal marginal relevance.

    `relevance` has a number for each row, its cosine to a query for example. Rows come in the
    order in which they are chosen: next comes the one with the largest `trade` * relevance -
    (1 - `trade`) * its largest cosine with one that was chosen; of equals the lower. Raises
    ValueError for k below 1, for a `trade` outside [0, 1], for shapes that don't agree and for a
    relevance that isn't finite.
    """
    if k < 1:
        raise ValueError(f"k: {k} is less than 1")
    if not 0 <= trade <= 1:
        raise ValueError(f"trade: {trade:g} is not from 0 to 1")
    scores = np.asarray(relevance, dtype=np.float64)
    matrix = np.asarray(rows, dtype=np.float32)
    is_empty = matrix.ndim > 0 and matrix.shape[0] == 0
    has_rows = is_empty or (matrix.ndim == 2 and matrix.shape[1] > 0)
    if scores.ndim != 1 or not has_rows or len(scores) != len(matrix):
        raise ValueError("mmr: need relevance of shape (n,) and rows of shape (n, d), d > 0")
    if not np.isfinite(scores).all():
        raise ValueError("mmr: the relevance of a row is a NaN or an infinity")
    return _chosen(scores.tolist(), matrix.tolist(), k, trade)


def _chosen(like: list[float], rows: list[list[float]], k: int, trade: float) -> list[int]:
    left = list(range(len(rows)))
    chosen: list[int] = []
    nearest = [0.0] * len(rows)
    while left and len(chosen) < k:
        gains = [(trade * like[i] - (1 - trade) * nearest[i], -i) for i in left]
        best = -max(gains)[1]
        left.remove(best)
        for i in left:
            near = _cosine_of(rows[best], rows[i])
            nearest[i] = max(nearest[i], near) if chosen else near
        chosen.append(best)
    return chosen


def neighbours(rows: ArrayLike) -> list[float]:
    """The cosine of each row with the next; 0 where one of them is all zeros or isn't finite."""
    matrix = np.asarray(rows, dtype=np.float32)
    if matrix.ndim > 0 and matrix.shape[0] == 0:
        return []
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise ValueError("neighbours: need rows of shape (n, d), d > 0")
    listed: list[list[float]] = matrix.tolist()
    return [_cosine_of(a, b) for a, b in pairwise(listed)]


def _cosine_of(a: list[float], b: list[float]) -> float:
    return cosine(a, b) if all(isfinite(x) for x in a) else 0.0
