"""What the compiled functions mean. Slow, obvious, always there.

A change starts here; `tests/native` then holds the C++ to it.
"""

from math import fsum, isfinite, sqrt

import numpy as np
from numpy.typing import ArrayLike

TOLERANCE = 1e-5
"""How far a compiled score may be from the reference's. On whole numbers they are the same."""


def rank(query: ArrayLike, rows: ArrayLike, k: int) -> list[tuple[int, float]]:
    """The k rows most like `query` by cosine, as (row, score), best first.

    Of equal scores the lower row comes first; k below 1 asks for nothing. Numbers are taken as
    float32. Scores lie in [-1, 1]. A row without a direction (all zeros, or a NaN or an infinity
    in it) is like nothing: its score is 0; and so is every score of a query of zeros. Raises
    ValueError for shapes that don't agree and for a query that isn't finite.
    """
    vector = np.asarray(query, dtype=np.float32)
    matrix = np.asarray(rows, dtype=np.float32)
    is_empty = matrix.ndim > 0 and matrix.shape[0] == 0
    fits = is_empty or (matrix.ndim == 2 and matrix.shape[1] == vector.size)
    if vector.ndim != 1 or vector.size == 0 or not fits:
        raise ValueError("rank: need query of shape (d,) and rows of shape (n, d), d > 0")
    if not np.isfinite(vector).all():
        raise ValueError("rank: the query holds a NaN or an infinity")
    wanted: list[float] = vector.tolist()
    scored = [(index, cosine(wanted, row)) for index, row in enumerate(matrix.tolist())]
    return sorted(scored, key=lambda hit: (-hit[1], hit[0]))[: max(k, 0)]


def cosine(a: list[float], b: list[float]) -> float:
    if not all(isfinite(x) for x in b):
        return 0.0
    norms = sqrt(_dot(a, a)) * sqrt(_dot(b, b))
    return min(max(_dot(a, b) / norms, -1.0), 1.0) if norms else 0.0


def _dot(a: list[float], b: list[float]) -> float:
    return fsum(x * y for x, y in zip(a, b, strict=True))
