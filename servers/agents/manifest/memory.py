"""spec.memory and spec.knowledge: what an agent remembers and looks up."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from servers.agents.manifest.connection import Connection
from servers.agents.manifest.semantic import SemanticMemory
from servers.domain.memory import Strategy
from servers.kernel.addresses import kind_of
from servers.kernel.fields import Count, Name, Seconds
from servers.kernel.manifest import Strict


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
        said = self.connection.model_fields_set
        if said - {"url"}:
            raise ValueError(f"connection.{min(said - {'url'})} isn't read; say it all as url")
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
        """A section without keys is one all the same, also once it is written down: what is
        empty is left out there."""
        if not self.model_fields_set:
            self.model_fields_set.add("backend")
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
    backend: Literal["sqlite", "postgres"] | None = None
    connection: Connection = Connection()


class AgentMemory(Strict):
    conversational: ConversationalMemory | None = None
    semantic: SemanticMemory | None = None
    episodic: EpisodicMemory | None = None


class Knowledge(Strict):
    pipeline: Name
    top_k: Annotated[Count, Field(le=1000)] | None = None
