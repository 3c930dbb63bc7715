"""What the compiled chunkers mean that make a value of each chunk.

`kind` is a class of `text`, `start` and `end`: where a chunk begins and ends in the source.
"""

from collections.abc import Sequence
from typing import Protocol, TypeVar

from servers.kernel.native.chunks import SEPARATORS, Stretches, check_sizes, recursive_chunks
from servers.kernel.native.sentences import sentence_chunks

T = TypeVar("T", covariant=True)


class Kind(Protocol[T]):
    def __call__(self, text: str, start: int, end: int) -> T: ...


def fixed_values(kind: Kind[T], text: str, size: int, overlap: int = 0) -> list[T]:
    """Chunks of `size`, the last one of what is left."""
    check_sizes(size, overlap)
    starts = range(0, max(len(text) - overlap, min(len(text), 1)), size - overlap)
    return [_value(kind, text, start, min(start + size, len(text))) for start in starts]


def recursive_values(
    kind: Kind[T],
    text: str,
    size: int,
    overlap: int = 0,
    separators: Sequence[str] = SEPARATORS,
    keep: str = "start",
    strip: bool = True,
) -> list[T]:
    """Of `recursive_chunks`, but for those that have nothing new."""
    return new_values(kind, text, recursive_chunks(text, size, overlap, separators, keep, strip))


def new_values(kind: Kind[T], text: str, chunks: list[Stretches]) -> list[T]:
    """Without those that end no later than one before: after an overlap just white space."""
    found: list[T] = []
    covered = 0
    for stretches in chunks:
        start, end = stretches[0][0], stretches[-1][1]
        if end > covered:
            covered = end
            found.append(kind("".join([text[a:b] for a, b in stretches]), start, end))
    return found


def sentence_values(kind: Kind[T], text: str, size: int, overlap: int = 0) -> list[T]:
    """Of `sentence_chunks`."""
    return [_value(kind, text, *span) for span in sentence_chunks(text, size, overlap)]


def _value(kind: Kind[T], text: str, start: int, end: int) -> T:
    return kind(text[start:end], start, end)
