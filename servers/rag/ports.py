"""What the RAG service needs from the outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from servers.domain.ingestions import (
    DocumentFailure,
    Ingestion,
    IngestionFilter,
    IngestionState,
)
from servers.domain.rag import Document, Ingested


@dataclass(frozen=True, slots=True)
class Contents:
    """What a document holds, as text."""

    text: str
    title: str = ""  # that it gives itself


class Reader(Protocol):
    def __call__(self, content: bytes, media_type: str) -> Contents:
        """Blocks; to be called in a thread. Raises InvalidInput (DOCUMENT_UNREADABLE,
        DOCUMENT_TOO_LARGE) that says of the document what is wrong, NotReady (EXTRA_MISSING)."""
        ...


class Spool(Protocol):
    """What was accepted and is not taken in yet, and how ingestions ended; on disk before any
    of these returns."""

    async def begin(self, ingestion: Ingestion) -> None:
        """Room for documents; nobody sees it before `accept`."""
        ...

    async def add(self, ingestion: str, number: int, document: Document) -> None:
        """Raises Exhausted (INGESTION_QUEUE_FULL)."""
        ...

    async def accept(self, ingestion: str, request_id: str, digest: str) -> Ingestion:
        """Let it run. Where the request_id is known: that ingestion, and this one is dropped.
        Raises AlreadyExists (REQUEST_ID_REUSED)."""
        ...

    async def asked(self, tenant: str, principal: str, request_id: str) -> bool:
        """Whether that request_id is known."""
        ...

    async def get(self, ingestion: str) -> Ingestion | None:
        """As all that give ingestions, without those of its documents that failed."""
        ...

    async def failures(self, ingestion: str, most: int) -> Sequence[DocumentFailure]:
        """The first ones, in the order in which they came."""
        ...

    async def page(
        self, tenant: str, where: IngestionFilter, after: tuple[float, str] | None, limit: int
    ) -> Sequence[Ingestion]:
        """Newest first."""
        ...

    async def running(self) -> Sequence[Ingestion]:
        """Oldest first."""
        ...

    async def forget_receiving(self) -> None:
        """Those that were not accepted when the process before ended: nobody was answered."""
        ...

    async def next(self, ingestion: str) -> tuple[int, Document] | None: ...

    async def settle(self, ingestion: str, number: int, told: Ingested) -> None:
        """How a document ended. Its content is forgotten."""
        ...

    async def cancel(self, ingestion: str) -> None: ...

    async def end(self, ingestion: str, state: IngestionState, why: str = "") -> None:
        """Contents that were not taken in are forgotten."""
        ...

    async def forget(self, ingestion: str) -> None: ...

    async def sweep(self, before: float) -> int:
        """Forget those that ended before."""
        ...
