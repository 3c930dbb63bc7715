"""Conversations, as kept between runs."""

from dataclasses import dataclass

from servers.domain.chat import Message


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A conversation. The same session id with another agent or tenant is another one."""

    tenant: str
    agent: str
    session: str


@dataclass(frozen=True, slots=True)
class Turn:
    """One stored message of a conversation."""

    index: int  # position in the session, from 0; never reused while the session lives
    message: Message
    created_at: float  # seconds since the epoch
    run_id: str = ""  # the run that wrote it


@dataclass(frozen=True, slots=True)
class TurnPage:
    turns: tuple[Turn, ...]
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class Strategy:
    """How much of a conversation a model is shown."""

    name: str = "sliding_window"
    max_turns: int = 20


@dataclass(frozen=True, slots=True)
class MemoryContext:
    """What a prompt gets from memory, oldest first."""

    messages: tuple[Message, ...] = ()
    total_turns: int = 0  # in the session, shown or not
