"""Documents as they are looked up: what is taken in, and what is found again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

Scalar: TypeAlias = str | int | float | bool
Metadata: TypeAlias = Mapping[str, Scalar]
Where: TypeAlias = Mapping[str, Scalar | tuple[Scalar, ...]]  # a tuple: any of its values


@dataclass(frozen=True, slots=True)
class Document:
    """What somebody wants to be found, as the file is."""

    id: str
    content: bytes = field(repr=False)
    media_type: str = ""  # empty: told by the ending of the id
    title: str = ""  # empty: what the document says itself, else its id
    uri: str = ""
    metadata: Metadata = field(default_factory=dict)
    acl: tuple[str, ...] = ()  # principals who may see it; empty: everybody of the tenant


@dataclass(frozen=True, slots=True)
class StoredDocument:
    id: str
    title: str
    uri: str
    content_hash: str
    chunks: int
    metadata: Metadata
    acl: tuple[str, ...]
    updated_at: float  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class DocumentPage:
    documents: tuple[StoredDocument, ...]
    next_page_token: str = ""


class IngestOutcome(Enum):
    CREATED = "created"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Ingested:
    """How the taking in of a document ended."""

    id: str
    outcome: IngestOutcome
    chunks: int = 0
    error_reason: str = ""
    error_message: str = ""


@dataclass(frozen=True, slots=True)
class Mmr:
    """Maximal marginal relevance: each passage is chosen for what it says about the question
    and for what those before it don't say."""

    lambda_mult: float = 0.5  # 1: relevance is all that counts; 0: difference is
    fetch_k: int | None = None  # passages that are chosen from; None: what is fetched anyway


@dataclass(frozen=True, slots=True)
class PassageQuery:
    """None: as the pipeline says."""

    pipeline: str
    text: str
    top_k: int | None = None
    similarity_threshold: float | None = None
    where: Where = field(default_factory=dict)
    mmr: Mmr | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document. `start` and `end` count characters of the document's text."""

    document: str
    title: str
    uri: str
    text: str
    start: int
    end: int
    index: int  # which passage of its document, from 0
    similarity: float  # cosine
    score: float  # what passages are ordered by, but for `Mmr`
    metadata: Metadata = field(default_factory=dict)

    @property
    def citation(self) -> str:
        return f"{self.title or self.document} [{self.start}-{self.end}]"


@dataclass(frozen=True, slots=True)
class Chunk:
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class PipelineInfo:
    name: str
    version: str
    backend: str
    chunking: str
    reason: str = ""  # why it can't work, or why a later version was not taken over
    embedding_model: str = ""
    dimension: int = 0
    chunks: int = 0
    ready: bool = True  # whether it can work
