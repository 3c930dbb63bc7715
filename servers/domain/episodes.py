"""What happened to an agent, as it is remembered; and who is asked for it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from servers.domain.sessions import SessionKey


class EpisodeType(Enum):
    RUN = "run"
    TOOL_CALL = "tool_call"
    FEEDBACK = "feedback"
    CUSTOM = "custom"


class EpisodeOutcome(Enum):
    """How it ended."""

    NONE = ""  # nothing that ends: feedback, and what a client has written down
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    BLOCKED = "blocked"  # by a guardrail
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"
    REJECTED = "rejected"  # by who was to approve it
    UNKNOWN = "unknown"  # the process stopped while the tool was called


class EpisodeScope(Enum):
    """Whose episodes a model is shown."""

    PRINCIPAL = "principal"  # those of who asks; of somebody unknown those of nobody known
    SESSION = "session"  # of these, those of the session alone
    AGENT = "agent"  # all of the agent's


@dataclass(frozen=True, slots=True)
class Episode:
    """One thing that happened. Texts are the beginnings, as guardrails have left them."""

    type: EpisodeType
    text: str = ""  # the question, the arguments, the comment
    result: str = ""  # the answer, what the tool gave
    name: str = ""  # of the tool
    outcome: EpisodeOutcome = EpisodeOutcome.NONE
    reason: str = ""
    duration: float = 0.0  # seconds
    rating: float | None = None  # of feedback: 0 to 1
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0  # seconds since the epoch
    expires_at: float | None = None  # None: never
    id: str = ""
    agent: str = ""
    session: str = ""
    principal: str = ""
    run_id: str = ""
    backend: str = ""


@dataclass(frozen=True, slots=True)
class RunTold:
    """All that happened in a run: itself first, then its tool calls."""

    key: SessionKey
    run_id: str
    attempt: int  # how often it was started: what an earlier one has told is replaced
    episodes: tuple[Episode, ...]
    principal: str = ""
    ttl: float = 0.0  # seconds; 0: for ever
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What a client wants to be remembered."""

    tenant: str
    episode: Episode  # its agent, run and session, and what there is to say
    request_id: str = ""  # the same one again is the same episode
    ttl: float | None = None  # seconds; 0: for ever; None: as long as its run
    backend: str = ""


@dataclass(frozen=True, slots=True)
class EpisodeFilter:
    """Episodes that fit all that is said."""

    tenant: str
    agent: str
    session: str = ""
    run_id: str = ""
    types: tuple[EpisodeType, ...] = ()
    outcomes: tuple[EpisodeOutcome, ...] = ()
    name: str = ""
    principal: str | None = None  # None: anybody; empty: nobody known
    since: float | None = None  # seconds since the epoch
    until: float | None = None  # not included

    @property
    def says_something(self) -> bool:
        return self != EpisodeFilter(self.tenant, self.agent)


@dataclass(frozen=True, slots=True)
class EpisodePage:
    episodes: tuple[Episode, ...]  # newest first
    next_page_token: str = ""


@dataclass(frozen=True, slots=True)
class EpisodicSelection:
    """Which episodes a model is shown: the newest."""

    max_results: int = 20
    types: tuple[EpisodeType, ...] = ()
    scope: EpisodeScope = EpisodeScope.PRINCIPAL
    backend: str = ""


class Episodes(Protocol):
    """What happened to agents. Specification: tests/contract/test_episodes.py.

    `backend` names where they are kept. Empty: where the agent's file says, else wherever
    they may be.
    """

    async def record(self, told: RunTold) -> int:
        """Keep what happened in a run, all or nothing; the same run again adds nothing.

        Returns how many are new.
        """
        ...

    async def add(self, note: Note) -> Episode:
        """Keep what a client says. Returns what is kept, with its id."""
        ...

    async def list(
        self, asked: EpisodeFilter, page_size: int = 0, page_token: str = "", backend: str = ""
    ) -> EpisodePage:
        """Newest first."""
        ...

    async def get(self, tenant: str, agent: str, id: str, backend: str = "") -> Episode:
        """Raises NotFound (EPISODE_NOT_FOUND)."""
        ...

    async def remove(self, tenant: str, agent: str, id: str, backend: str = "") -> None:
        """Forget one. Raises NotFound (EPISODE_NOT_FOUND)."""
        ...

    async def delete(
        self, asked: EpisodeFilter, everything: bool = False, backend: str = ""
    ) -> int:
        """Forget those that fit; `everything`: all of the agent's, where nothing else is said.

        Returns how many there were.
        """
        ...

    async def check(self, backend: str) -> None:
        """Raises what keeps the backend from being used."""
        ...
