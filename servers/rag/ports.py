"""What the RAG service needs from the outside."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from servers.kernel.vectors.ports import VectorStore


@dataclass(frozen=True, slots=True)
class StorePlace:
    """Where a collection is kept. Pipelines that name the same place share it."""

    backend: str
    collection: str
    address: str = field(default="", repr=False)  # it may hold a password
    path: str = ""
    api_key: str = field(default="", repr=False)


# Raises NotReady where the backend's package is missing, Unavailable where nobody answers.
OpenStore: TypeAlias = Callable[[StorePlace], AbstractAsyncContextManager[VectorStore]]


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
