"""The taking in of many documents as a long-running operation: how far it is, and its end."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum


class IngestionState(Enum):
    RUNNING = "running"
    DONE = "done"  # every document came to an end, be it a failure
    CANCELLED = "cancelled"
    GAVE_UP = "gave_up"  # what it needs was away for too long


@dataclass(frozen=True, slots=True)
class DocumentFailure:
    id: str
    reason: str
    message: str
    acl: tuple[str, ...] = ()  # of the document


@dataclass(frozen=True, slots=True)
class Ingestion:
    """How an ingestion stands."""

    id: str
    tenant: str
    principal: str
    pipeline: str
    created_at: float  # seconds since the epoch
    updated_at: float
    state: IngestionState = IngestionState.RUNNING
    documents: int = 0
    created: int = 0
    replaced: int = 0
    unchanged: int = 0
    failed: int = 0
    bytes: int = 0
    chunks: int = 0
    current: str = ""  # the id of the document in hand
    waiting: str = ""  # for what; empty: it gets on
    cancel: bool = False  # somebody wants it to end
    ended_at: float | None = None
    failures: tuple[DocumentFailure, ...] = ()  # the first ones; lists leave them out

    @property
    def name(self) -> str:
        return f"operations/{self.id}"

    @property
    def done(self) -> int:
        return self.created + self.replaced + self.unchanged + self.failed

    @property
    def over(self) -> bool:
        return self.state is not IngestionState.RUNNING

    def names(self, acl: Collection[str], principal: str) -> bool:
        """Whether a document with that acl may be named to somebody: who sent it knows it."""
        return not acl or principal in acl or principal == self.principal


@dataclass(frozen=True, slots=True)
class IngestionFilter:
    """None: all of them."""

    done: bool | None = None
    pipeline: str = ""


@dataclass(frozen=True, slots=True)
class IngestionPage:
    ingestions: tuple[Ingestion, ...]
    next_page_token: str = ""
