"""Cuts a text into chunks: fixed, recursive, by sentences, by meaning.

A chunk knows where in the source it lies. No text is lost but the white space between chunks, and
each chunk brings something that the one before did not have. Sizes are in characters (code
points), or in whatever `length` counts, tokens for example; characters are cut by compiled code.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from servers.kernel import native
from servers.kernel.native import chunks, sentences
from servers.kernel.native.chunks import SEPARATORS, check_sizes
from servers.kernel.native.values import new_values

Length: TypeAlias = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Chunk:
    """`source[start:end]`, but for separators in it that were not to be kept."""

    text: str
    start: int
    end: int


def fixed(text: str, size: int, overlap: int = 0, length: Length | None = None) -> list[Chunk]:
    """Chunks of `size`, the last one of what is left. White space counts and is kept.

    With `length`: of as many characters as fit; one that is longer than `size` stands alone.
    """
    check_sizes(size, overlap)
    if length is None:
        return native.fixed_values(Chunk, text, size, overlap)
    found: list[Chunk] = []
    start = end = 0
    while end < len(text):
        fits = _prefix(text, start, size, length)
        if fits <= end:  # the overlap leaves no room for anything new
            start = end
            fits = max(_prefix(text, start, size, length), start + 1)
        end = fits
        found.append(_chunk(text, start, end))
        start = _suffix(text, start + 1, end, overlap, length) if overlap else end
    return found


def recursive(
    text: str,
    size: int,
    overlap: int = 0,
    *,
    separators: Sequence[str] = SEPARATORS,
    keep: str = "start",
    strip: bool = True,
    length: Length | None = None,
) -> list[Chunk]:
    """As LangChain's RecursiveCharacterTextSplitter cuts; see `native.chunks`.

    Of its chunks only those are missing that have nothing new: after an overlap just white space.
    """
    if length is None:
        return native.recursive_values(Chunk, text, size, overlap, separators, keep, strip)
    found = chunks.recursive_chunks(text, size, overlap, separators, keep, strip, length)
    return new_values(Chunk, text, found)


def sentence(text: str, size: int, overlap: int = 0, length: Length | None = None) -> list[Chunk]:
    """Whole sentences, the overlap too; see `native.sentences` for what one is."""
    if length is None:
        return native.sentence_values(Chunk, text, size, overlap)
    found = sentences.sentence_chunks(text, size, overlap, length)
    return [_chunk(text, start, end) for start, end in found]


def semantic(
    text: str,
    spans: Sequence[tuple[int, int]],
    alike: Sequence[float],
    size: int,
    threshold: float,
    length: Length = len,
) -> list[Chunk]:
    """Neighbours among `spans` stay together while they are alike and fit.

    `alike` has the cosine of each span and the next, as `native.neighbours` gives it. A span that
    is longer than `size` by itself is a chunk of its own.
    """
    check_sizes(size, 0)
    if len(alike) != max(len(spans) - 1, 0):
        raise ValueError(f"alike: {len(alike)} cosines are not one for each of two neighbours")
    found: list[Chunk] = []
    for index, (start, end) in enumerate(spans):
        whole = text[found[-1].start : end] if found else ""
        if found and alike[index - 1] >= threshold and length(whole) <= size:
            found[-1] = Chunk(whole, found[-1].start, end)
        else:
            found.append(_chunk(text, start, end))
    return found


def _chunk(text: str, start: int, end: int) -> Chunk:
    return Chunk(text[start:end], start, end)


def _prefix(text: str, start: int, size: int, length: Length) -> int:
    """The end of the longest text from `start` on that fits; found by halving."""
    low, step = start, size
    while low + step < len(text) and length(text[start : low + step]) <= size:
        low, step = low + step, step * 2
    high = min(low + step, len(text))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if length(text[start:middle]) <= size else (low, middle - 1)
    return low


def _suffix(text: str, start: int, end: int, size: int, length: Length) -> int:
    """The start of the longest text up to `end` that fits."""
    low, high = start, end
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if length(text[middle:end]) <= size else (middle + 1, high)
    return low
