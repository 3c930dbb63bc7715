"""Points as numbers: those of one version follow one another, and no number comes twice."""

from collections.abc import Iterable, Iterator
from typing import TypeAlias

import numpy as np

from servers.kernel.vectors.postings import Numbers as Several

Place: TypeAlias = tuple[str, int]  # a version, and the index of one of its points


class Numbers:
    def __init__(self) -> None:
        self._of: dict[str, range] = {}
        self._places: dict[int, Place] = {}
        self._next = 0

    def __contains__(self, version: str) -> bool:
        return version in self._of

    def __len__(self) -> int:
        return len(self._places)

    def versions(self) -> Iterator[str]:
        return iter(list(self._of))

    def of_version(self, version: str, points: int = 0) -> range:
        """`points`: how many there are, where it is new."""
        return self._of.get(version) or self.add(version, points)

    def add(self, version: str, points: int) -> range:
        self._of[version] = new = range(self._next, self._next + points)
        self._places |= {number: (version, index) for index, number in enumerate(new)}
        self._next += points
        return new

    def drop(self, version: str) -> range:
        gone = self._of.pop(version, range(0))
        for number in gone:
            del self._places[number]
        return gone

    def of(self, versions: Iterable[str]) -> Several:
        """In their order."""
        ranges = [self._of[each] for each in versions if each in self._of]
        ends = np.array([(each.start, each.stop) for each in ranges], np.int64).reshape(-1, 2)
        starts, stops = ends[np.argsort(ends[:, 0])].T
        counts = stops - starts
        before = np.cumsum(counts) - counts
        numbers: Several = np.arange(counts.sum()) + np.repeat(starts - before, counts)
        return numbers

    def every(self) -> Several:
        return self.of(self._of)

    def place(self, number: int) -> Place:
        return self._places[number]
