"""spec.memory and spec.knowledge: what an agent remembers and looks up."""

from typing import Literal

from servers.domain.memory import Strategy
from servers.kernel.fields import Count, Seconds, Secret, Share
from servers.kernel.manifest import Strict


class Connection(Strict):
    url: Secret = ""
    host: str = ""
    port: Count | None = None
    database: str = ""
    user: str = ""
    password: Secret = ""


class Embeddings(Strict):
    provider: str = ""
    model: str = ""
    endpoint: str = ""
    api_key_env: str = ""


class ConversationalMemory(Strict):
    """The turns of a session. An agent without this section remembers nothing."""

    backend: Literal["sqlite", "redis", "postgres"] = "sqlite"
    strategy: Literal["sliding_window", "summary", "token_budget"] = "sliding_window"
    max_turns: Count = 20
    max_tokens: Count | None = None
    summary_threshold: Count | None = None
    ttl: Seconds | None = None
    connection: Connection = Connection()

    def shown(self) -> Strategy:
        """How much of the conversation a model is shown."""
        return Strategy(self.strategy, self.max_turns)


class SemanticMemory(Strict):
    backend: Literal["pgvector", "chroma", "qdrant", "faiss"] | None = None
    collection: str = ""
    similarity_threshold: Share | None = None
    max_results: Count | None = None
    embeddings: Embeddings = Embeddings()
    dimension: Count | None = None
    connection: Connection = Connection()
    path: str = ""


class EpisodicMemory(Strict):
    backend: Literal["sqlite", "postgres"] | None = None
    connection: Connection = Connection()


class AgentMemory(Strict):
    conversational: ConversationalMemory | None = None
    semantic: SemanticMemory | None = None
    episodic: EpisodicMemory | None = None


class Knowledge(Strict):
    pipeline: str
    top_k: Count | None = None
