"""Vectors by number in an array, searched by our own compiled functions.

What is used where FAISS isn't installed: a mesh without extras can take in documents and
remember, too. The answers are the same.
"""

import os
from array import array
from collections.abc import Iterable, Sequence

import numpy as np

from servers.domain.embeddings import Vector
from servers.kernel import native

_LEAST_ROOM = 1024  # rows
_MOST_THREADS = 4  # of one search: others search, too


class FlatIndex:
    """Satisfies `servers.kernel.vectors.index.Index`. Numbers are kept in their order."""

    def __init__(self, dimension: int, packed: bytes = b"") -> None:
        """`packed` isn't read: SQLite has it all, and an array is made of it at once."""
        self._numbers = np.empty(0, np.int64)
        self._room = np.empty((0, dimension), np.float32)
        self._threads = min(_MOST_THREADS, os.cpu_count() or 1)

    def numbers(self) -> set[int]:
        return set(self._numbers.tolist())

    def remove(self, numbers: Iterable[int]) -> None:
        gone = np.fromiter(numbers, np.int64)
        if not len(gone):
            return
        kept = np.flatnonzero(~np.isin(self._numbers, gone))
        self._room = self._room[kept]
        self._numbers = self._numbers[kept]

    def add(self, vectors: Sequence[tuple[int, bytes]]) -> None:
        if not vectors:
            return
        dimension = self._room.shape[1]
        rows = np.frombuffer(b"".join(each for _, each in vectors), np.float32)
        rows = rows.reshape(-1, dimension)
        there, count = len(self._numbers), len(self._numbers) + len(rows)
        if count > len(self._room):  # some more, so that the next ones cost no copy
            room = np.empty((max(_LEAST_ROOM, count + count // 2), dimension), np.float32)
            room[:there] = self._room[:there]
            self._room = room
        self._room[there:count] = rows
        added = np.array([number for number, _ in vectors], np.int64)
        self._numbers = np.concatenate([self._numbers, added])
        if (there and added[0] < self._numbers[there - 1]) or (np.diff(added) < 0).any():
            order = np.argsort(self._numbers)
            self._numbers, self._room = self._numbers[order], self._room[:count][order]

    def nearest(self, seen: "array[int]", vector: Vector, limit: int) -> list[tuple[int, float]]:
        numbers, rows = self._numbers, self._room[: len(self._numbers)]
        if len(seen) < len(numbers):
            wanted = np.sort(np.frombuffer(seen, np.int64))
            there = np.isin(wanted, numbers, assume_unique=True)
            numbers, rows = wanted[there], rows[np.searchsorted(numbers, wanted[there])]
        asked = np.frombuffer(vector, np.float32).reshape(1, -1)
        found, scores = native.top_k(asked, rows, limit, "dot", self._threads)
        return list(zip(numbers[found[0]].tolist(), scores[0].tolist(), strict=True))

    def packed(self) -> bytes:
        return b""
