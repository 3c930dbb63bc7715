"""What the compiled functions mean that compare rows with one another."""

from itertools import pairwise
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from servers.kernel.native.reference import cosine


def mmr(query: ArrayLike, rows: ArrayLike, k: int, trade: float = 0.5) -> list[tuple[int, float]]:
    """Up to k rows that are like `query` and unlike one another: maximal marginal relevance.

    In the order in which they are chosen, each with its cosine to the query: next comes the row
    with the largest `trade` * that cosine - (1 - `trade`) * its largest cosine with one that was
    chosen; of equals the lower. Raises ValueError for k below 1, for a `trade` outside [0, 1],
    for shapes that don't agree and for a query that isn't finite.
    """
    if k < 1:
        raise ValueError(f"k: {k} is less than 1")
    if not 0 <= trade <= 1:
        raise ValueError(f"trade: {trade:g} is not from 0 to 1")
    vector = np.asarray(query, dtype=np.float32)
    matrix = np.asarray(rows, dtype=np.float32)
    is_empty = matrix.ndim > 0 and matrix.shape[0] == 0
    fits = is_empty or (matrix.ndim == 2 and matrix.shape[1] == vector.size)
    if vector.ndim != 1 or vector.size == 0 or not fits:
        raise ValueError("mmr: need query of shape (d,) and rows of shape (n, d), d > 0")
    if not np.isfinite(vector).all():
        raise ValueError("mmr: the query holds a NaN or an infinity")
    listed: list[list[float]] = matrix.tolist()
    like = [cosine(vector.tolist(), row) for row in listed]
    left = list(range(len(listed)))
    chosen: list[int] = []
    nearest = [0.0] * len(listed)
    while left and len(chosen) < k:
        gains = [(trade * like[i] - (1 - trade) * nearest[i], -i) for i in left]
        best = -max(gains)[1]
        left.remove(best)
        for i in left:
            near = _cosine_of(listed[best], listed[i])
            nearest[i] = max(nearest[i], near) if chosen else near
        chosen.append(best)
    return [(i, like[i]) for i in chosen]


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
