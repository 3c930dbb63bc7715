"""Vectors and scores that scripted servers answer with: of each text its own, always the same."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from tests.scripted.http_server import Reply

LENGTH = 8  # of a vector where nobody asks for another


@dataclass(frozen=True, slots=True)
class Texts(Reply):
    """An answer about texts, and what may be wrong with it."""

    length: int = LENGTH  # of the vectors
    given: int | None = None  # so many rows, whatever was asked for
    hole: bool = False  # the first number is none
    shuffled: bool = False  # rows in another order than the texts; they are numbered
    twice: bool = False  # the last row has the number of the first


def vector_for(text: str, length: int = LENGTH) -> tuple[float, ...]:
    """Numbers of 32 bits, so that they are the same after every way they can be written."""
    numbers = (crc32(f"{at} {text}".encode()) / 2**31 - 1 for at in range(length))
    return struct.unpack(f"<{length}f", struct.pack(f"<{length}f", *numbers))


def score_for(query: str, document: str) -> float:
    return crc32(f"{query} {document}".encode()) / 2**32


def tokens(texts: Sequence[str], query: str = "") -> int:
    """A token a character: what all batches used together does not depend on their number."""
    return sum(len(query) + len(text) for text in texts)


def length_of(reply: Reply, wanted: int | None) -> int:
    return wanted or getattr(reply, "length", LENGTH)


def with_faults(reply: Reply, vectors: list[Any]) -> list[Any]:
    """JSON has no way to write what is no number, so that servers write null."""
    if getattr(reply, "hole", False):
        vectors[0] = [None, *vectors[0][1:]]
    return vectors


def rows(reply: Reply, found: list[Any]) -> list[Any]:
    """As many as the reply says, in its order."""
    given = getattr(reply, "given", None)
    if given is not None:
        found = [found[at % len(found)] for at in range(given)]
    if getattr(reply, "twice", False):
        found = [*found[:-1], found[0]]
    return found[::-1] if getattr(reply, "shuffled", False) else found
