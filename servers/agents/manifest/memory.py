"""spec.memory and spec.knowledge: what an agent remembers and looks up."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from servers.agents.manifest.connection import Connection
from servers.agents.manifest.semantic import SemanticMemory
from servers.domain.episodes import EpisodeScope, EpisodeType, EpisodicSelection
from servers.domain.memory import Strategy
from servers.kernel.addresses import kind_of
from servers.kernel.fields import Count, Name, Seconds, Whole
from servers.kernel.manifest import Strict


def _only_a_url(connection: Connection) -> None:
    said = connection.model_fields_set
    if said - {"url"}:
        raise ValueError(f"connection.{min(said - {'url'})} isn't read; say it all as url")


def _said(section: Strict) -> None:
    """A section without keys is one all the same, also once it is written down: what is empty
    is left out there."""
    if not section.model_fields_set:
        section.model_fields_set.add("backend")


class ConversationalMemory(Strict):
    """The turns of a session. An agent without this section remembers nothing."""

    backend: Name = "sqlite"
    strategy: Literal["sliding_window", "summary", "token_budget"] = "sliding_window"
    max_turns: Count = 20
    max_tokens: Count | None = None
    summary_threshold: Count | None = None
    ttl: Seconds | None = None
    connection: Connection = Connection()

    @model_validator(mode="after")
    def _connects(self) -> Self:
        _only_a_url(self.connection)
        kind = kind_of(self.connection.url)
        if self.connection.url and (kind is None or self.backend != kind):
            raise ValueError(
                "connection.url is for the backends 'redis' (redis://HOST:PORT/DATABASE, or "
                "rediss:// for TLS) and 'postgres' (postgresql://USER@HOST:PORT/DATABASE), each "
                "with its own; remove it where the backend is one of runtime.yaml"
            )
        return self

    @model_validator(mode="after")
    def _is_said(self) -> Self:
        _said(self)
        return self

    def shown(self, counted_by: str = "") -> Strategy:
        """How much of the conversation a model is shown."""
        usual = Strategy()
        return Strategy(
            self.strategy,
            self.max_turns,
            self.max_tokens or usual.max_tokens,
            self.summary_threshold or usual.summary_threshold,
            counted_by,
        )

    def place(self, agent: str) -> str:
        """The name of the backend: one that runtime.yaml knows, or one that is its alone."""
        return f"agent:{agent}" if self.connection.url else self.backend


class EpisodicMemory(Strict):
    """What happened: runs, tool calls, feedback."""

    backend: Name = "sqlite"
    ttl: Seconds | None = None
    max_results: Annotated[Whole, Field(ge=0, le=100)] = 20
    types: tuple[Literal["run", "tool_call", "feedback", "custom"], ...] = ()
    scope: Literal["principal", "session", "agent"] = "principal"
    connection: Connection = Connection()

    @model_validator(mode="after")
    def _connects(self) -> Self:
        _only_a_url(self.connection)
        kind = kind_of(self.connection.url)
        if self.backend == "redis" or kind == "redis":
            raise ValueError(
                "Redis keeps no episodes; use 'sqlite', or a backend that is PostgreSQL"
            )
        if self.connection.url and (kind is None or self.backend != kind):
            raise ValueError(
                "connection.url is for the backend 'postgres' "
                "(postgresql://USER@HOST:PORT/DATABASE); remove it where the backend is one of "
                "runtime.yaml"
            )
        return self

    @model_validator(mode="after")
    def _is_said(self) -> Self:
        _said(self)
        return self

    @property
    def selection(self) -> EpisodicSelection | None:
        """What of it a model is shown; without a backend."""
        if not self.max_results:
            return None
        types = tuple(EpisodeType(each) for each in self.types)
        return EpisodicSelection(self.max_results, types, EpisodeScope(self.scope))

    def place(self, agent: str) -> str:
        """The name of the backend: one that runtime.yaml knows, or one that is its alone, and
        need not be that of its conversations."""
        return f"agent:{agent}:episodic" if self.connection.url else self.backend


class AgentMemory(Strict):
    conversational: ConversationalMemory | None = None
    semantic: SemanticMemory | None = None
    episodic: EpisodicMemory | None = None


class Knowledge(Strict):
    pipeline: Name
    top_k: Annotated[Count, Field(le=1000)] | None = None
