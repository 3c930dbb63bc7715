"""What the memory service needs from the outside."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from servers.domain.chat import Message
from servers.domain.memory import Recorded, SessionInfo, SessionKey, Summary, Turn
from servers.kernel.stored_json import loads, message_from


@dataclass(frozen=True, slots=True)
class Exchange:
    """Messages that are added together."""

    messages: Sequence[Message]
    run_id: str
    at: float  # seconds since the epoch
    id: str  # as no other; also the etag of a session that begins with it
    principal: str = ""
    tokens: Sequence[int] = ()  # of each message, or none
    counted_by: str = ""
    ttl: float | None = None  # seconds; 0: for ever; None: as the session has it

    @property
    def mark(self) -> str:
        """What has been added under it once is not added again."""
        return self.run_id or self.id

    @property
    def counts(self) -> Sequence[int]:
        return self.tokens or [0] * len(self.messages)


@dataclass(frozen=True, slots=True)
class Latest:
    """The newest messages of a session, and what is known of the whole."""

    messages: tuple[Message, ...] = ()  # oldest first
    total: int = 0  # turns
    summary: str = ""  # of what came before, where only what is behind it is asked for


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of a session besides its turns."""

    total: int = 0
    summary: str = ""
    until: int = 0  # turns below are in the summary
    etag: str = ""  # changes with the summary; of another session of that name it is another


class StoredTurn(NamedTuple):
    """As a row has it: more are looked at than shown, and only those that are shown are decoded."""

    idx: int
    body: bytes  # the message, see kernel/stored_json.py
    created_at: float
    run_id: str
    principal: str
    tokens: int
    counted_by: str

    def turn(self) -> Turn:
        return Turn(self.idx, message_from(loads(self.body)), *self[2:])


@dataclass(frozen=True, slots=True)
class Window:
    """The end of a session, or of what comes before a turn of it."""

    turns: Sequence[StoredTurn] = ()  # newest first
    total: int = 0  # that the session has


class Conversations(Protocol):
    """An unknown session is an empty one, and so is one whose time is over."""

    async def append(self, key: SessionKey, exchange: Exchange) -> int:
        """Add to the end, all or nothing; nothing if its run has written here before.

        Returns how many turns the session has then.
        """
        ...

    async def page(self, key: SessionKey, after: int, limit: int) -> Sequence[Turn]:
        """The first `limit` turns whose index is greater than `after`, oldest first."""
        ...

    async def latest(self, key: SessionKey, limit: int, *, unsummarised: bool = False) -> Latest:
        """The last `limit` messages; `unsummarised`: the summary, and of the messages those that
        are not in it."""
        ...

    async def newest(self, key: SessionKey, limit: int, before: int | None = None) -> Window:
        """The last `limit` turns, of those whose index is less than `before`."""
        ...

    async def standing(self, key: SessionKey) -> Standing: ...

    async def clear(self, key: SessionKey) -> int:
        """Forget the session. Returns how many turns it had."""
        ...


class Annotations(Protocol):
    """What is added to turns that are kept."""

    async def summarise(self, key: SessionKey, summary: Summary, etag: str) -> bool:
        """Put a summary in the place of the one before, under a new `etag`; False: the
        session has changed since, and keeps what it has."""
        ...

    async def count(self, key: SessionKey, counts: Sequence[tuple[int, int]], by: str) -> None:
        """Put how many tokens turns have, by index."""
        ...


class Records(Protocol):
    """All that is kept of a tenant, for those who may ask to see and to forget it."""

    async def sessions(
        self, tenant: str, agent: str, after: str, limit: int
    ) -> Sequence[SessionInfo]:
        """By name, those behind `after`."""
        ...

    async def of_principal(
        self, tenant: str, principal: str, after: tuple[str, str, int], limit: int
    ) -> Sequence[Recorded]:
        """His turns, by agent, session and index, those behind `after`."""
        ...

    async def erase(self, tenant: str, principal: str, etag: str) -> int:
        """Forget his turns, and the summaries of sessions that had any. Returns how many."""
        ...

    async def sweep(self) -> int:
        """Remove what is over. Returns how many sessions."""
        ...


class ConversationStore(Conversations, Annotations, Records, Protocol):
    """Keeps conversations durably. Specification: tests/contract/test_memory.py."""
