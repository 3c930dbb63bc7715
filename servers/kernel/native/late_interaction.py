"""What the compiled MaxSim means: late interaction, word by word."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def max_sim(query: ArrayLike, rows: ArrayLike) -> NDArray[np.float32]:
    """For each row of `query` its largest cosine with one of `rows`.

    -1, which is the least, where there are no rows. Numbers are taken as float32. A row without
    a direction (all zeros, or a NaN or an infinity in it) has the cosine 0 with everything, and
    so has a row of zeros in the query. Raises ValueError for shapes that don't agree and for a
    query that isn't finite.
    """
    wanted = np.asarray(query, np.float32)
    matrix = np.asarray(rows, np.float32)
    is_empty = matrix.ndim > 0 and matrix.shape[0] == 0
    agree = wanted.ndim == 2 and (
        is_empty or (matrix.ndim == 2 and matrix.shape[1] == wanted.shape[1])
    )
    if not agree or wanted.shape[1] == 0:
        raise ValueError("max_sim: need a query of shape (m, d) and rows of shape (n, d), d > 0")
    if not np.isfinite(wanted).all():
        raise ValueError("max_sim: the query holds a NaN or an infinity")
    if is_empty:
        return np.full(len(wanted), -1, np.float32)
    cosines = _directions(wanted) @ _directions(matrix).T
    best: NDArray[np.float64] = np.clip(cosines.max(axis=1), -1, 1)
    return best.astype(np.float32)


def _directions(rows: NDArray[np.float32]) -> NDArray[np.float64]:
    wide = rows.astype(np.float64)
    wide[~np.logical_and.reduce(np.isfinite(wide), axis=1)] = 0
    lengths = np.sqrt(np.square(wide).sum(axis=1))
    found: NDArray[np.float64] = wide / np.where(lengths > 0, lengths, 1)[:, None]
    return found
