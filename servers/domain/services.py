"""The services as they see one another. In process or over gRPC: the caller can't tell.

Errors are those of `servers.kernel.errors`. Streams are AsyncGenerators, so that
whoever starts one can close it; closing frees what is behind it.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Protocol

from servers.domain.agents import AgentPage, AgentRecord
from servers.domain.caller import Caller
from servers.domain.chat import ChatRequest, Completion, Json, Message, Step
from servers.domain.embeddings import (
    CountRequest,
    Embeddings,
    EmbedRequest,
    Ranking,
    RerankRequest,
    TokenCount,
)
from servers.domain.episodes import Episodes
from servers.domain.graphs import Graph
from servers.domain.ingestions import Ingestion, IngestionFilter, IngestionPage
from servers.domain.memory import (
    Backlog,
    Details,
    MemoryContext,
    RecordPage,
    SessionKey,
    SessionPage,
    Strategy,
    Summary,
    TurnPage,
)
from servers.domain.models import BreakerInfo, BreakerState, ModelInfo, ProviderInfo
from servers.domain.rag import (
    Chunk,
    Document,
    DocumentPage,
    Ingested,
    IngestOutcome,
    Passage,
    PassageQuery,
    PipelineInfo,
    StoredDocument,
)
from servers.domain.run_events import RunEvent
from servers.domain.runs import (
    Decision,
    OnDisconnect,
    Purged,
    Run,
    RunFilter,
    RunPage,
    RunRequest,
    RunSelection,
)
from servers.domain.semantic import NOTHING_BESIDES, Besides, Erased, SemanticMemory
from servers.domain.tools import Tool, ToolRequest, ToolResult
from servers.domain.usage import BudgetState, UsageQuery, UsageRow


class Router(Protocol):
    """One door to every language model. Specification: tests/contract/test_router.py."""

    async def complete(self, request: ChatRequest) -> Completion: ...

    def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        """Pieces, then exactly one Finish. After the first piece nobody else takes over."""
        ...

    async def embed(self, request: EmbedRequest) -> Embeddings: ...

    async def rerank(self, request: RerankRequest) -> Ranking: ...

    async def count_tokens(self, request: CountRequest) -> TokenCount: ...

    async def models(self) -> Sequence[ModelInfo]: ...

    async def providers(self) -> Sequence[ProviderInfo]: ...

    async def update_breaker(
        self, provider: str, model: str, state: BreakerState
    ) -> Sequence[BreakerInfo]:
        """Force open, or close and forget failures. `model` empty: all models of the provider."""
        ...

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        """What calls used, by group; groups in order of their values."""
        ...

    async def budgets(self, tenant: str, name: str = "") -> Sequence[BudgetState]:
        """The counters that are in use, and for a budget without any one that is unused."""
        ...


class Memory(Protocol):
    """Conversations, and what else is remembered. Specification: tests/contract/test_memory.py.

    `backend` names where a session is kept. Empty: where the agent's file says, else where
    the session is, else where it is by default.
    """

    @property
    def episodes(self) -> Episodes: ...

    @property
    def semantic(self) -> SemanticMemory: ...

    async def append(
        self,
        key: SessionKey,
        messages: Sequence[Message],
        run_id: str = "",
        details: Details = ...,
    ) -> int:
        """Add to the end, all or nothing. The same run_id twice adds once.

        Returns how many turns the session has then.
        """
        ...

    async def turns(
        self, key: SessionKey, page_size: int = 0, page_token: str = "", backend: str = ""
    ) -> TurnPage:
        """Oldest first. An unknown session is an empty one."""
        ...

    async def clear(self, key: SessionKey, backend: str = "") -> int:
        """Forget the session and its summary. Returns how many turns were deleted."""
        ...

    async def context(
        self,
        key: SessionKey,
        strategy: Strategy,
        backend: str = "",
        besides: Besides = NOTHING_BESIDES,
    ) -> MemoryContext:
        """What a model is shown. That the conversation can't be had is an error; what else
        can't be had is told in the context."""
        ...

    async def check(self, backend: str) -> None:
        """Raises what keeps the backend from being used."""
        ...

    async def count(
        self, key: SessionKey, counts: Sequence[tuple[int, int]], by: str, backend: str = ""
    ) -> None:
        """Put down how many tokens turns have, by index."""
        ...

    async def backlog(self, key: SessionKey, strategy: Strategy, backend: str = "") -> Backlog:
        """What the session's summary has to take in next."""
        ...

    async def summarise(self, key: SessionKey, summary: Summary, backend: str = "") -> bool:
        """Replace the summary; False where the session has changed since its backlog."""
        ...

    async def sessions(
        self, tenant: str, agent: str, page_size: int = 0, page_token: str = ""
    ) -> SessionPage: ...

    async def export(
        self, tenant: str, principal: str, page_size: int = 0, page_token: str = ""
    ) -> RecordPage:
        """All that is kept of one who asked, of every agent and backend."""
        ...

    async def erase(self, tenant: str, principal: str) -> Erased:
        """Forget it. Returns how much there was."""
        ...


class Tools(Protocol):
    """Tools by name. Specification: tests/contract/test_tools.py."""

    async def list(self) -> Sequence[Tool]: ...

    async def get(self, name: str) -> Tool: ...

    async def call(self, caller: Caller, request: ToolRequest) -> ToolResult:
        """Never raises for what the tool did: failures are results. Unknown names are too."""
        ...


class Rag(Protocol):
    """Documents that are looked up. Specification: tests/contract/test_rag.py."""

    async def ingest(
        self, caller: Caller, pipeline: str, document: Document
    ) -> tuple[StoredDocument, IngestOutcome]:
        """Read, cut, embed and store; all or nothing. The same id again replaces."""
        ...

    def ingest_all(
        self, caller: Caller, pipeline: str, documents: AsyncIterator[Document]
    ) -> AsyncGenerator[Ingested, None]:
        """One after the other. What can't be taken in is told, and doesn't stop the others."""
        ...

    async def query(self, caller: Caller, query: PassageQuery) -> Sequence[Passage]:
        """Best first."""
        ...

    async def delete(self, caller: Caller, pipeline: str, document: str) -> int:
        """Returns how many chunks were deleted."""
        ...

    async def documents(
        self, caller: Caller, pipeline: str, page_size: int = 0, page_token: str = ""
    ) -> DocumentPage:
        """By id."""
        ...

    async def pipelines(self, caller: Caller) -> Sequence[PipelineInfo]: ...

    async def pipeline(self, caller: Caller, name: str) -> PipelineInfo: ...

    async def chunk(self, caller: Caller, pipeline: str, text: str) -> Sequence[Chunk]:
        """How the pipeline would cut the text."""
        ...


class Ingestions(Protocol):
    """Documents that are taken in behind the caller's back.
    Specification: tests/contract/test_ingestions.py."""

    async def start(
        self,
        caller: Caller,
        pipeline: str,
        documents: AsyncIterator[Document],
        request_id: str = "",
    ) -> Ingestion:
        """Returns once all of them are on disk. The same request_id gives the same one."""
        ...

    async def get(self, caller: Caller, name: str) -> Ingestion: ...

    async def list(
        self, caller: Caller, where: IngestionFilter, page_size: int = 0, page_token: str = ""
    ) -> IngestionPage:
        """Newest first."""
        ...

    async def cancel(self, caller: Caller, name: str) -> None:
        """The document in hand still comes to its end. One that is over stays as it is."""
        ...

    async def delete(self, caller: Caller, name: str) -> None:
        """Forget one that is over."""
        ...

    async def wait(self, caller: Caller, name: str, seconds: float) -> Ingestion:
        """How it stands once it is over, or after so many seconds."""
        ...

    def watch(self, caller: Caller, name: str) -> AsyncGenerator[Ingestion, None]:
        """How it stands, then each time it got on, until it is over."""
        ...


class Agents(Protocol):
    """Agents and their runs. Specification: tests/contract/test_agents.py and test_runs.py."""

    async def run(self, caller: Caller, request: RunRequest) -> Run:
        """Start and wait until it has ended or waits. Leaving early cancels the run."""
        ...

    def stream(
        self,
        caller: Caller,
        request: RunRequest,
        on_disconnect: OnDisconnect | None = None,
    ) -> AsyncGenerator[RunEvent, None]:
        """Start and watch: events in order, the last one Completed, or that it waits.

        `on_disconnect` None: as the agent says.
        """
        ...

    async def create_run(self, caller: Caller, request: RunRequest) -> Run:
        """Start and return at once; the run is on record when this returns."""
        ...

    async def get_run(self, caller: Caller, run_id: str) -> Run: ...

    async def list_runs(
        self, caller: Caller, where: RunFilter, page_size: int = 0, page_token: str = ""
    ) -> RunPage:
        """Newest first."""
        ...

    def events(
        self, caller: Caller, run_id: str, after_sequence: int = 0, past_only: bool = False
    ) -> AsyncGenerator[RunEvent, None]:
        """Watch from a position in the log to the end of the run; with `past_only`, to where the
        log is by now. Leaving doesn't cancel."""
        ...

    async def cancel(self, caller: Caller, run_id: str, reason: str = "") -> Run:
        """Returns the run once it has ended. A finished run is NotReady."""
        ...

    async def delete_run(self, caller: Caller, run_id: str, force: bool = False) -> None:
        """Forget a run that has ended, with its sub-agents' runs. `force`: cancel it before."""
        ...

    async def purge_runs(
        self,
        caller: Caller,
        which: RunSelection,
        *,
        force: bool = False,
        validate_only: bool = False,
    ) -> Purged:
        """The same for all that are selected; those that have not ended are left, unless
        `force`. With `validate_only` nothing is deleted, and only counted."""
        ...

    async def run_tree(self, caller: Caller, run_id: str) -> Graph:
        """What a run and its sub-agents' runs did, ended or not."""
        ...

    async def resume(
        self, caller: Caller, run_id: str, decision: Decision, wait: bool = False
    ) -> Run:
        """Answer what a run waits for, and let it go on. Returns the run as it stands then;
        with `wait`, once it has ended or waits again."""
        ...

    async def list(self, caller: Caller, page_size: int = 0, page_token: str = "") -> AgentPage: ...

    async def get(self, caller: Caller, name: str) -> AgentRecord: ...

    async def agent_graph(self, caller: Caller, name: str) -> Graph:
        """What an agent may do, its sub-agents included."""
        ...

    async def create(
        self, caller: Caller, manifest: Json, validate_only: bool = False
    ) -> AgentRecord: ...

    async def update(
        self,
        caller: Caller,
        manifest: Json,
        *,
        fields: Sequence[str] = (),
        etag: str = "",
        allow_missing: bool = False,
        validate_only: bool = False,
    ) -> AgentRecord:
        """Replace the named fields ("spec.prompts", ...), or the whole where none is named."""
        ...

    async def delete(
        self, caller: Caller, name: str, etag: str = "", validate_only: bool = False
    ) -> None: ...
