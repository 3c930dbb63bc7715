"""Which points say most of some words, by BM25: read from the words in SQLite, or elsewhere.

What is held in memory at a time is one word of the points that may be seen, however many points
of others have it.
"""

import sqlite3
from array import array
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt
import orjson

from servers.kernel.vectors import words

_MOST_TIED: Final = 1000  # as good as the last one, of which the first by name are kept
_AT_ONCE: Final = 10_000  # points looked up by one statement
_LOOKED_UP: Final = 5  # points that are read in a row while one is looked up
WEIGHT: Final = np.dtype([("point", np.int64), ("weight", np.float64)])

Numbers: TypeAlias = npt.NDArray[np.int64]
# The points that have a word, and what it weighs there, as `WEIGHT`; of some points at least.
Having: TypeAlias = Callable[[int, Numbers], npt.NDArray[np.void]]

_NOBODY: Final[Numbers] = np.empty(0, np.int64)


def best(
    connection: sqlite3.Connection, seen: "array[int]", asked: Sequence[str], limit: int
) -> list[tuple[int, float]]:
    """Numbers and scores of the best ones among those that are seen, and of those as good as
    the last of them."""
    numbers = np.sort(np.frombuffer(seen, np.int64)) if len(seen) else _NOBODY
    return ranked(partial(_having, connection), numbers, asked, limit)


def ranked(
    having: Having, numbers: Numbers, asked: Sequence[str], limit: int
) -> list[tuple[int, float]]:
    """The same of `numbers`, which are in order."""
    if not len(numbers):
        return []
    scores = np.zeros(len(numbers))
    for word in asked:
        having_it = having(words.number(word), numbers)
        at = np.minimum(np.searchsorted(numbers, having_it["point"]), len(numbers) - 1)
        there = numbers[at] == having_it["point"]
        rarity = words.rarity(int(there.sum()), len(numbers))
        # A point has a word once, so that no place comes twice.
        scores[at[there]] += having_it["weight"][there] * rarity
    some = np.flatnonzero(scores)
    order = some[np.argsort(-scores[some], kind="stable")]
    last = scores[order[min(limit, len(order)) - 1]] - 0.0001 if len(order) else 0.0
    order = order[scores[order] >= last][: limit + _MOST_TIED]
    return list(zip(numbers[order].tolist(), scores[order].tolist(), strict=True))


def _having(connection: sqlite3.Connection, word: int, seen: Numbers) -> npt.NDArray[np.void]:
    """The points that have the word, and what it weighs there: all of them, or, where these are
    many more than may be seen, those of `seen`."""
    sql = "SELECT point, weight FROM word WHERE word = ? LIMIT ?"
    most = len(seen) * _LOOKED_UP
    every = np.fromiter(connection.execute(sql, (word, most + 1)), WEIGHT)
    if len(every) <= most:
        return every
    sql = (
        "SELECT w.point, w.weight FROM json_each(?) s CROSS JOIN word w "
        "ON w.word = ? AND w.point = s.value"
    )
    parts = (seen[at : at + _AT_ONCE] for at in range(0, len(seen), _AT_ONCE))
    lists = (orjson.dumps(part.tolist()).decode() for part in parts)
    return np.concatenate(
        [np.fromiter(connection.execute(sql, (each, word)), WEIGHT) for each in lists]
    )
