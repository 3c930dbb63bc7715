"""Vectors by number in FAISS: exact search by dot product."""

from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import faiss
import numpy as np

from servers.domain.embeddings import Vector


class FaissIndex:
    """Satisfies `servers.kernel.vectors.index.Index`."""

    def __init__(self, dimension: int, packed: bytes = b"") -> None:
        """Raises ValueError or RuntimeError where `packed` isn't what `packed()` gave."""
        self._dimension = dimension
        self._index: Any = faiss.IndexIDMap2(faiss.IndexFlatIP(dimension))
        if packed:
            self._index = faiss.deserialize_index(np.frombuffer(packed, np.uint8))
            if self._index.d != dimension:
                raise ValueError(f"vectors of {self._index.d} numbers")

    def numbers(self) -> set[int]:
        return set(faiss.vector_to_array(self._index.id_map).tolist())

    def remove(self, numbers: Iterable[int]) -> None:
        gone = np.fromiter(numbers, np.int64)
        if len(gone):
            self._index.remove_ids(gone)

    def add(self, vectors: Sequence[tuple[int, bytes]]) -> None:
        if vectors:
            numbers = np.array([number for number, _ in vectors], np.int64)
            packed = np.frombuffer(b"".join(each for _, each in vectors), np.float32)
            self._index.add_with_ids(packed.reshape(-1, self._dimension), numbers)

    def nearest(self, seen: "array[int]", vector: Vector, limit: int) -> list[tuple[int, float]]:
        selector = faiss.IDSelectorBatch(np.frombuffer(seen, np.int64))
        asked = np.frombuffer(vector, np.float32).reshape(1, -1)
        parameters = faiss.SearchParameters(sel=selector)  # type: ignore[call-arg]
        scores, numbers = self._index.search(asked, min(limit, len(seen)), params=parameters)
        pairs = zip(numbers[0].tolist(), scores[0].tolist(), strict=True)
        return [(number, score) for number, score in pairs if number >= 0]

    def packed(self) -> bytes:
        packed: bytes = faiss.serialize_index(self._index).tobytes()
        return packed
