"""Vectors by number, in an array and on a GPU: FAISS finds them there.

Needs a build of FAISS for CUDA (extra `faiss-gpu`) and a GPU; else nobody makes one.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import faiss
import numpy as np

from servers.domain.embeddings import Vector
from servers.kernel.vectors.index_flat import FlatIndex

_MOST_FOUND: Final = 2048  # that FAISS finds on a GPU
_SCRATCH: Final = 64 * 2**20  # bytes of the GPU, beside the vectors

Flat: TypeAlias = Any  # an index of FAISS over vectors without numbers: add, search, reset
NewFlat: TypeAlias = Callable[[int], Flat]


def gpus() -> int:
    """How many there are that FAISS can use."""
    return int(faiss.get_num_gpus()) if hasattr(faiss, "GpuIndexFlatIP") else 0


@lru_cache(maxsize=1)
def _resources() -> Any:
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(_SCRATCH)
    return resources


def _on_gpu(dimension: int) -> Flat:
    return faiss.GpuIndexFlatIP(_resources(), dimension)


class GpuIndex(FlatIndex):
    """A search that sees all vectors is done on the GPU; one that sees some of them only (by
    access, say) in the array, as there is no such choice on a GPU. Changes other than new
    vectors at the end are loaded anew before the next search."""

    def __init__(self, dimension: int, packed: bytes = b"", new_flat: NewFlat = _on_gpu) -> None:
        super().__init__(dimension, packed)
        self._flat = new_flat(dimension)
        self._stale = False

    def remove(self, numbers: Iterable[int]) -> None:
        super().remove(numbers)
        self._stale = True

    def add(self, vectors: Sequence[tuple[int, bytes]]) -> None:
        there, last = len(self._numbers), max(self._numbers, default=-1)
        super().add(vectors)
        in_order = all(number > last for number, _ in vectors)
        if self._stale or not in_order:
            self._stale = True
        elif vectors:
            self._flat.add(self._room[there : len(self._numbers)])

    def nearest(self, seen: "array[int]", vector: Vector, limit: int) -> list[tuple[int, float]]:
        count = len(self._numbers)
        if len(seen) < count or limit > _MOST_FOUND:
            return super().nearest(seen, vector, limit)
        if self._stale:
            self._flat.reset()
            self._flat.add(self._room[:count])
            self._stale = False
        asked = np.frombuffer(vector, np.float32).reshape(1, -1)
        scores, at = self._flat.search(asked, min(limit, count))
        pairs = zip(self._numbers[at[0]].tolist(), scores[0].tolist(), strict=True)
        return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))
