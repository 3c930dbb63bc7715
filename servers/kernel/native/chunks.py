"""What the compiled chunkers mean: where a text is cut.

`recursive_chunks` cuts as LangChain's RecursiveCharacterTextSplitter does; the tests compare the
two. native_cpp/include/astromesh/chunks.hpp is this code in the same order.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

Span: TypeAlias = tuple[int, int]
Stretches: TypeAlias = tuple[Span, ...]
Length: TypeAlias = Callable[[str], int]

SEPARATORS = ("\n\n", "\n", " ", "")
KEEPS = ("start", "end", "")
MOST_SEPARATORS = 256  # they are nested calls


def check_sizes(size: int, overlap: int) -> None:
    if size < 1:
        raise ValueError(f"size: {size} is less than 1")
    if not 0 <= overlap < size:
        raise ValueError(f"overlap: {overlap} is not from 0 to {size - 1}, one less than the size")


def recursive_chunks(
    text: str,
    size: int,
    overlap: int = 0,
    separators: Sequence[str] = SEPARATORS,
    keep: str = "start",
    strip: bool = True,
    length: Length = len,
) -> list[Stretches]:
    """Chunks of at most `size`, cut at the first of `separators` that is there, then at the next.

    Each chunk is the stretches (start, end) of the text that it consists of: one where separators
    are kept, at the "start" or the "end" of the pieces. Where none are kept (""), a row of them
    counts as one, and what follows begins another stretch. "" among the separators cuts anywhere;
    without it a piece that has none of them may be longer than `size`, and is then not stripped.
    """
    check_sizes(size, overlap)
    if keep not in KEEPS:
        raise ValueError(f'keep: {keep!r} is none of "start", "end" and ""')
    if not 0 < len(separators) <= MOST_SEPARATORS:
        raise ValueError(f"separators: {len(separators)} are not from 1 to {MOST_SEPARATORS}")
    cutter = _Recursive(text, size, overlap, keep, strip, length)
    cutter.cut((0, len(text)), list(separators))
    return cutter.chunks


class _Recursive:
    def __init__(
        self, text: str, size: int, overlap: int, keep: str, strip: bool, length: Length
    ) -> None:
        self._text = text
        self._size = size
        self._overlap = overlap
        self._keep = keep
        self._strip = strip
        self._length = length
        self.chunks: list[Stretches] = []

    def cut(self, span: Span, separators: list[str]) -> None:
        """Add the chunks of what lies in `span`."""
        separator, rest = separators[-1], []
        for index, each in enumerate(separators):
            if not each or self._text.find(each, *span) >= 0:
                separator, rest = each, separators[index + 1 :] if each else []
                break
        small: list[Span] = []
        for piece in self._pieces(span, separator):
            if self._measure(piece) < self._size:
                small.append(piece)
                continue
            self._merge(small, separator)
            small = []
            if rest:
                self.cut(piece, rest)
            else:
                self.chunks.append((piece,))
        self._merge(small, separator)

    def _measure(self, span: Span) -> int:
        return self._length(self._text[span[0] : span[1]])

    def _pieces(self, span: Span, separator: str) -> list[Span]:
        start, end = span
        if not separator:
            return [(i, i + 1) for i in range(start, end)]
        pieces = []
        at = start
        while (found := self._text.find(separator, at, end)) >= 0:
            at = found + len(separator)
            pieces.append((start, at if self._keep == "end" else found))
            start = found if self._keep == "start" else at
        return [piece for piece in (*pieces, (start, end)) if piece[0] < piece[1]]

    def _merge(self, pieces: list[Span], separator: str) -> None:
        """Add chunks of as many pieces as fit, each beginning with some of the one before."""
        between = 0 if self._keep else self._length(separator)
        gap = 0 if self._keep else len(separator)
        first = total = 0
        for at, piece in enumerate(pieces):
            length = self._measure(piece)
            if first < at and total + length + between > self._size:
                self._add(pieces[first:at], gap)
                while total > self._overlap or (
                    total > 0 and total + length + between * (first < at) > self._size
                ):
                    total -= self._measure(pieces[first]) + between * (at - first > 1)
                    first += 1
            total += length + between * (first < at)
        self._add(pieces[first:], gap)

    def _add(self, pieces: list[Span], gap: int) -> None:
        stretches: list[Span] = []
        for start, end in pieces:
            if stretches and start <= stretches[-1][1] + gap:
                stretches[-1] = (stretches[-1][0], end)
                continue
            if stretches:  # one of the separators in between
                stretches[-1] = (stretches[-1][0], stretches[-1][1] + gap)
            stretches.append((start, end))
        if self._strip:
            stretches = _stripped(self._text, stretches)
        if stretches:
            self.chunks.append(tuple(stretches))


def _stripped(text: str, stretches: list[Span]) -> list[Span]:
    while stretches and not text[slice(*stretches[0])].strip():
        del stretches[0]
    while stretches and not text[slice(*stretches[-1])].strip():
        del stretches[-1]
    if stretches:
        start, end = stretches[0]
        stretches[0] = (end - len(text[start:end].lstrip()), end)
        start, end = stretches[-1]
        stretches[-1] = (start, start + len(text[start:end].rstrip()))
    return stretches
