"""What is kept between runs: conversations, and all that a prompt gets of it."""

from dataclasses import dataclass

from servers.domain.chat import Message
from servers.domain.episodes import Episode
from servers.domain.semantic import Memory, SourceFailure
from servers.domain.sessions import SessionKey as SessionKey


@dataclass(frozen=True, slots=True)
class Turn:
    """One stored message of a conversation."""

    index: int  # position in the session, from 0; never reused while the session lives
    message: Message
    created_at: float  # seconds since the epoch
    run_id: str = ""  # the run that wrote it
    principal: str = ""  # who had asked; empty: nobody known
    tokens: int = 0  # that it has for the model `counted_by`; 0: nobody has counted
    counted_by: str = ""


@dataclass(frozen=True, slots=True)
class TurnPage:
    turns: tuple[Turn, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class Details:
    """What is known of messages besides what they say."""

    principal: str = ""
    tokens: tuple[int, ...] = ()  # of each message; empty: nobody has counted
    counted_by: str = ""
    ttl: float | None = None  # seconds that the session lives then; 0: for ever; None: as before
    backend: str = ""  # where the conversation is kept; empty: where it is already


@dataclass(frozen=True, slots=True)
class Strategy:
    """How much of a conversation a model is shown."""

    name: str = "sliding_window"
    max_turns: int = 20  # of sliding_window
    max_tokens: int = 4096  # of token_budget
    summary_threshold: int = 20  # of summary: turns that are shown as they are, at most
    counted_by: str = ""  # of token_budget: whose counts hold; empty: anybody's


@dataclass(frozen=True, slots=True)
class MemoryContext:
    """What a prompt gets from memory, oldest first."""

    messages: tuple[Message, ...] = ()
    total_turns: int = 0  # in the session, shown or not
    summary: str = ""  # of what came before
    uncounted: tuple[Turn, ...] = ()  # looked at under a budget of tokens by an estimate
    memories: tuple[Memory, ...] = ()  # that bear on the query, the most similar one first
    episodes: tuple[Episode, ...] = ()  # the newest first
    failures: tuple[SourceFailure, ...] = ()  # of sources that were asked, too


@dataclass(frozen=True, slots=True)
class Backlog:
    """What a summary has to take in next. No turns: nothing."""

    summary: str = ""  # so far
    turns: tuple[Turn, ...] = ()  # behind it, oldest first
    etag: str = ""  # of the session's summary, as it was read


@dataclass(frozen=True, slots=True)
class Summary:
    text: str
    until: int  # index of the first turn that is not in it
    etag: str  # of the backlog it was made from


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A conversation that is kept."""

    key: SessionKey
    turns: int
    created_at: float
    updated_at: float
    expires_at: float | None = None
    summary: str = ""
    backend: str = ""


@dataclass(frozen=True, slots=True)
class SessionPage:
    sessions: tuple[SessionInfo, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """A turn of a conversation; a memory, which has an agent and no session; or an episode."""

    key: SessionKey
    turn: Turn | None = None
    backend: str = ""  # or the collection
    memory: Memory | None = None
    episode: Episode | None = None


@dataclass(frozen=True, slots=True)
class RecordPage:
    records: tuple[Recorded, ...]
    next_page_token: str = ""
