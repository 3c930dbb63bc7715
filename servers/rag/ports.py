"""What the RAG service needs from the outside."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Contents:
    """What a document holds, as text."""

    text: str
    title: str = ""  # that it gives itself


class Reader(Protocol):
    def __call__(self, content: bytes, media_type: str) -> Contents:
        """Blocks; to be called in a thread. Raises InvalidInput (DOCUMENT_UNREADABLE,
        DOCUMENT_TOO_LARGE), NotReady (EXTRA_MISSING)."""
        ...
