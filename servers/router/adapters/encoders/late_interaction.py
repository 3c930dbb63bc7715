"""Relevance by late interaction: word by word, on the vectors that a model gives of each."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_TINY = 1e-12  # keeps a vector of zeros from dividing by it

Numbers = NDArray[np.float32]


def directions(rows: Numbers) -> Numbers:
    """Each row with length 1, so that products are cosines."""
    lengths = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    found: Numbers = rows / np.maximum(lengths, _TINY)[:, None]
    return found


def relevance(matches: Sequence[Numbers]) -> float:
    """How well all words of a query are met: the mean over them of the best match in any
    of the document's pieces."""
    return float(np.mean(np.max(np.stack(matches), axis=0)))
