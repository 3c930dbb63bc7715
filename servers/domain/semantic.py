"""Texts that are remembered, and found again by what they mean."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol, TypeAlias

from servers.domain.episodes import EpisodicSelection
from servers.domain.rag import Metadata, Where


class MemoryScope(Enum):
    """Who finds a memory again."""

    PRINCIPAL = "principal"  # who was asking, in any session
    AGENT = "agent"  # everybody who talks with the agent
    SESSION = "session"  # who was asking, in that session


class RememberOutcome(Enum):
    CREATED = "created"
    MERGED = "merged"  # the same, or nearly, was known
    UNCHANGED = "unchanged"  # of the same run


@dataclass(frozen=True, slots=True)
class Reader:
    """Who asks about an agent's memories: he finds the agent's, his own, and the session's."""

    tenant: str
    agent: str
    principal: str = ""  # empty: nobody known
    session: str = ""  # empty: none


@dataclass(frozen=True, slots=True)
class Origin:
    """One time that a memory was remembered."""

    principal: str = ""
    session: str = ""
    run_id: str = ""  # empty: a client did it
    at: float = 0.0  # seconds since the epoch


@dataclass(frozen=True, slots=True)
class Memory:
    id: str
    text: str
    agent: str
    scope: MemoryScope
    kind: str = "note"
    metadata: Metadata = field(default_factory=dict)
    origins: tuple[Origin, ...] = ()  # oldest first
    created_at: float = 0.0
    updated_at: float = 0.0
    collection: str = ""
    similarity: float = 0.0  # to what was asked
    expires_at: float | None = None  # when it is forgotten; None: never


@dataclass(frozen=True, slots=True)
class Remembered:
    """A text to remember. `duplicate_threshold` None: as the collection says. `ttl` None: as
    the memory has it that says the same already. `said_at` None: now."""

    text: str
    metadata: Metadata = field(default_factory=dict)
    scope: MemoryScope = MemoryScope.PRINCIPAL
    kind: str = ""
    run_id: str = ""
    duplicate_threshold: float | None = None
    said_at: float | None = None  # seconds since the epoch
    ttl: float | None = None  # seconds, from now; 0: for ever


@dataclass(frozen=True, slots=True)
class MemoryQuery:
    """What is looked for; None: 5 of any similarity."""

    text: str = ""
    top_k: int | None = None
    similarity_threshold: float | None = None
    where: Where = field(default_factory=dict)
    collection: str = ""


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Which memories go: one of these alone."""

    id: str = ""
    session: str = ""
    where: Where = field(default_factory=dict)
    all: bool = False


@dataclass(frozen=True, slots=True)
class Erasure:
    """Whose memories are gone: all of a principal's, or those with an agent, or in a session."""

    tenant: str
    principal: str
    agent: str = ""  # empty: any
    session: str = ""  # empty: any


# Told of an erasure before it is acknowledged.
Hear: TypeAlias = Callable[[Erasure], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class MemoryPage:
    memories: tuple[Memory, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """A source that a context is without."""

    source: str
    reason: str  # UPPER_SNAKE
    message: str


@dataclass(frozen=True, slots=True)
class Besides:
    """What is looked for besides the conversation: nothing, where a source is None."""

    query: str = ""
    principal: str = ""
    semantic: MemoryQuery | None = None
    patience: float | None = None  # seconds; None: the service's own
    episodic: EpisodicSelection | None = None

    @property
    def wanted(self) -> bool:
        return self.semantic is not None or self.episodic is not None


NOTHING_BESIDES = Besides()


@dataclass(frozen=True, slots=True)
class Erased:
    """How much of a principal was forgotten."""

    turns: int = 0
    memories: int = 0
    episodes: int = 0


class SemanticMemory(Protocol):
    """Texts that are found again by what they mean.
    Specification: tests/contract/test_semantic_memory.py.

    `collection` names where they are kept. Empty: where the agent's file says, else
    "default". Nobody finds what isn't his: see `MemoryScope`.
    """

    async def remember(
        self, reader: Reader, remembered: Remembered, collection: str = ""
    ) -> tuple[Memory, RememberOutcome]:
        """The same, or nearly the same, of the same scope is kept once."""
        ...

    async def recall(self, reader: Reader, query: MemoryQuery) -> Sequence[Memory]:
        """The most similar one first."""
        ...

    async def forget(self, reader: Reader, which: Forgetting, collection: str = "") -> int:
        """Returns how many memories were deleted."""
        ...

    async def memories(
        self, reader: Reader, query: MemoryQuery, page_size: int = 0, page_token: str = ""
    ) -> MemoryPage:
        """By id: those of `query.where` and `query.collection`, whatever they say."""
        ...

    async def check(self, collection: str) -> None:
        """Raises what keeps the collection from being used."""
        ...
