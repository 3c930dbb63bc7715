"""The words of points in memory, for databases that compare them with each text there is.

Of versions, which never change; those that nobody names any more go. It works in the thread that
calls it, and takes one call at a time.
"""

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from servers.kernel.vectors import postings
from servers.kernel.vectors.numbers import Numbers, Place

Weights: TypeAlias = Mapping[int, float]  # by a word's number


class WordTable:
    def __init__(self) -> None:
        self.numbers = Numbers()
        self._having: dict[int, tuple[array[int], array[float]]] = {}  # points, and weights
        self._gone = 0  # points that are listed yet

    def lacking(self, versions: Iterable[str]) -> list[str]:
        return [each for each in versions if each not in self.numbers]

    def add(self, version: str, points: Sequence[Weights]) -> None:
        for number, weights in zip(self.numbers.add(version, len(points)), points, strict=True):
            self.say(number, weights)

    def say(self, number: int, weights: Weights) -> None:
        for word, weight in weights.items():
            points, kept = self._having.setdefault(word, (array("q"), array("d")))
            points.append(number)
            kept.append(weight)

    def keep(self, versions: set[str]) -> None:
        """Forget all others, whose text is not to stay in memory either."""
        self.drop([each for each in self.numbers.versions() if each not in versions])

    def drop(self, versions: Iterable[str]) -> None:
        self._gone += sum(len(self.numbers.drop(each)) for each in versions)
        if self._gone > len(self.numbers):
            self._tidy()

    def _tidy(self) -> None:
        self._gone = 0
        there = self.numbers.every()
        for word, (points, weights) in list(self._having.items()):
            numbers = np.array(points, np.int64)
            kept = np.isin(numbers, there)
            if not kept.any():
                del self._having[word]
                continue
            weighed = np.array(weights)[kept].tobytes()
            self._having[word] = array("q", numbers[kept].tobytes()), array("d", weighed)

    def best(
        self, seen: Sequence[str], asked: Sequence[str], limit: int
    ) -> list[tuple[Place, float]]:
        """Places and scores of the best ones of some versions, as `postings.best`."""
        found = postings.ranked(self._of, self.numbers.of(seen), asked, limit)
        return [(self.numbers.place(number), score) for number, score in found]

    def held(self) -> int:
        """Words of points, those that are gone among them."""
        return sum(len(points) for points, _ in self._having.values())

    def _of(self, word: int, _: postings.Numbers) -> npt.NDArray[Any]:
        points, weights = self._having.get(word, ((), ()))
        found = np.empty(len(points), postings.WEIGHT)
        found["point"], found["weight"] = points, weights
        return found
