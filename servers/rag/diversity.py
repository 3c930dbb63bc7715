"""Which of many passages say much about a question, and little twice: maximal marginal relevance
(Carbonell and Goldstein, 1998), with LangChain's names for what can be set."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from servers.domain.embeddings import Vector
from servers.domain.rag import Passage
from servers.kernel import native

Key = tuple[str, int]  # of a passage: its document, and which of its passages it is


def diverse(
    passages: Sequence[Passage],
    vectors: Mapping[Key, Vector],
    asked: Vector,
    wanted: int,
    lambda_mult: float,
) -> list[Passage]:
    """Up to `wanted` of them, in the order in which they are chosen.

    How relevant one is says its score, brought to the range of the cosines with the vector
    `asked`: rerankers and searches for words have scales of their own, and what is weighed
    against relevance are cosines, too.
    """
    rows = np.array([vectors[key_of(each)] for each in passages], np.float32)
    cosines = [cosine for _, cosine in native.rank(np.asarray(asked), rows, len(rows))]
    scores = np.array([each.score for each in passages])
    relevance = brought(scores, cosines[-1], cosines[0])
    return [passages[row] for row in native.mmr(relevance, rows, wanted, lambda_mult)]


def key_of(passage: Passage) -> Key:
    return passage.document, passage.index


def brought(scores: NDArray[np.float64], least: float, most: float) -> NDArray[np.float64]:
    """In the same order, from `least` to `most`."""
    lowest = scores.min()
    shares = (scores - lowest) / ((scores.max() - lowest) or 1.0)
    found: NDArray[np.float64] = least + shares * (most - least)
    return found
