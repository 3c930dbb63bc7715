"""What finds vectors by number in this process, and the file that it is kept in."""

import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import structlog

from servers.domain.embeddings import Vector

_log = structlog.stdlib.get_logger("astromesh.vectors")


class Index(Protocol):
    """Exact search by dot product. It blocks: to be called in a thread."""

    def numbers(self) -> set[int]: ...

    def remove(self, numbers: Iterable[int]) -> None: ...

    def add(self, vectors: Sequence[tuple[int, bytes]]) -> None: ...

    def nearest(self, seen: "array[int]", vector: Vector, limit: int) -> list[tuple[int, float]]:
        """Numbers and similarities of the best ones among those that are seen."""
        ...

    def packed(self) -> bytes:
        """What makes the same index again; nothing where that isn't worth a file."""
        ...


class NewIndex(Protocol):
    def __call__(self, dimension: int, packed: bytes = ...) -> Index:
        """Raises ValueError or RuntimeError where `packed` isn't what `Index.packed` gave."""
        ...


def best_index() -> NewIndex:
    """FAISS, where it is installed; on a GPU, where there is one that it can use."""
    try:
        from servers.kernel.vectors.index_faiss import FaissIndex
        from servers.kernel.vectors.index_gpu import GpuIndex, gpus
    except ModuleNotFoundError:
        from servers.kernel.vectors.index_flat import FlatIndex

        return FlatIndex
    return GpuIndex if gpus() else FaissIndex


def read_index(file: Path, dimension: int, new_index: NewIndex) -> tuple[Index, int]:
    """The saved index and the change up to which it is; an empty one where it is unreadable."""
    try:
        body = file.read_bytes()
        index = new_index(dimension, body[8:])
        return index, int.from_bytes(body[:8], "little") if index.numbers() else -1
    except FileNotFoundError:
        return new_index(dimension), -1
    except (OSError, ValueError, RuntimeError, AssertionError) as error:
        _log.warning("index is built anew", file=str(file), error=str(error))
        return new_index(dimension), -1


def write_index(index: Index, file: Path, change: int) -> None:
    """Whole or not at all: a crash leaves the file that was there."""
    if not (packed := index.packed()):
        return
    fresh = file.with_suffix(".new")
    with fresh.open("wb") as out:
        out.write(change.to_bytes(8, "little"))
        out.write(packed)
        out.flush()
        os.fsync(out.fileno())
    fresh.chmod(0o600)
    fresh.replace(file)
