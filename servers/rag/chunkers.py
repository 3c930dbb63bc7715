"""How a pipeline cuts texts; the work itself is `servers.kernel.chunking`.

Every chunk knows its span in the text, and holds something new that is not white space.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from servers.domain.embeddings import Vector
from servers.domain.rag import Chunk
from servers.kernel import chunking, native
from servers.kernel.chunking import Length
from servers.kernel.native.chunks import SEPARATORS

Span = tuple[int, int]

__all__ = ["SEPARATORS", "Cutting", "Length", "Span", "cut", "semantic", "sentences"]


@dataclass(frozen=True, slots=True)
class Cutting:
    """How texts are cut. `overlap` is less than `size`."""

    strategy: str = "recursive"
    size: int = 1000
    overlap: int = 200
    separators: tuple[str, ...] = SEPARATORS
    threshold: float = 0.5  # of `semantic`: the least cosine between neighbours


def cut(text: str, cutting: Cutting, length: Length | None = None) -> list[Chunk]:
    """All strategies but `semantic`, which needs vectors of `sentences`. Sizes are characters,
    or what `length` counts."""
    size, overlap = cutting.size, cutting.overlap
    match cutting.strategy:
        case "fixed":
            found = chunking.fixed(text, size, overlap, length)
        case "sentence":
            found = chunking.sentence(text, size, overlap, length)
        case _:
            separators = cutting.separators
            # Without the last one a piece may be longer than a chunk, and than a model reads.
            separators = separators if "" in separators else (*separators, "")
            found = chunking.recursive(text, size, overlap, separators=separators, length=length)
    return _seen(found)


def sentences(text: str) -> list[Span]:
    """Where sentences are, without those of white space alone."""
    return [(a, b) for a, b in native.sentence_spans(text) if text[a:b].strip()]


def semantic(
    text: str,
    spans: Sequence[Span],
    vectors: Sequence[Vector],
    cutting: Cutting,
    length: Length | None = None,
) -> list[Chunk]:
    """Neighbours stay together while they are alike and fit. A zero vector is like nothing."""
    alike = native.neighbours(np.array(vectors, np.float32))
    found = chunking.semantic(text, spans, alike, cutting.size, cutting.threshold, length or len)
    whole = Cutting("sentence", cutting.size, 0)
    chunks: list[Chunk] = []
    for each in found:  # a sentence may be longer than a chunk
        if (length or len)(each.text) <= cutting.size:
            chunks += _seen([each])
        else:
            inner = cut(each.text, whole, length)
            chunks += [Chunk(c.text, each.start + c.start, each.start + c.end) for c in inner]
    return chunks


def _seen(found: Sequence[chunking.Chunk]) -> list[Chunk]:
    return [Chunk(each.text, each.start, each.end) for each in found if each.text.strip()]
