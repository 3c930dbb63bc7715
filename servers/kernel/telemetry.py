"""Spans and metrics, which leave over OTLP where that is set up and cost nothing elsewhere.

A caller's trace context (W3C `traceparent`) is handed on in either case. Names follow
OpenTelemetry's conventions for GenAI; they are still moving, so they are kept here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Final, Protocol, TypeAlias

from servers.kernel.errors import NotReady

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"

# Attributes of spans and metrics.
OPERATION: Final = "gen_ai.operation.name"  # chat, invoke_agent, execute_tool, ...
PROVIDER: Final = "gen_ai.provider.name"
MODEL: Final = "gen_ai.request.model"
ANSWERED_BY: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
TOKEN_TYPE: Final = "gen_ai.token.type"  # input or output
AGENT: Final = "gen_ai.agent.name"
CONVERSATION: Final = "gen_ai.conversation.id"
TOOL: Final = "gen_ai.tool.name"
TOOL_CALL: Final = "gen_ai.tool.call.id"
ERROR: Final = "error.type"
RUN: Final = "astromesh.run.id"
COST: Final = "astromesh.cost.usd"  # also a histogram
BUDGET: Final = "astromesh.budget.name"
PIPELINE: Final = "astromesh.rag.pipeline"
BACKEND: Final = "astromesh.memory.backend"  # sqlite, redis, postgres, or of vectors
OUTCOME: Final = "astromesh.rag.outcome"  # created, replaced, unchanged or failed
RELOAD_KIND: Final = "astromesh.reload.kind"  # agent or pipeline
RELOAD_OUTCOME: Final = "astromesh.reload.outcome"  # taken, removed or refused

# Histograms, in seconds unless they end in usage, usd, refusals, lost, failures, reloads
# or deleted.
CALL_DURATION: Final = "rpc.server.call.duration"
MODEL_DURATION: Final = "gen_ai.client.operation.duration"
FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
TOKENS: Final = "gen_ai.client.token.usage"
AGENT_DURATION: Final = "gen_ai.invoke_agent.duration"
TOOL_DURATION: Final = "gen_ai.execute_tool.duration"
DOCUMENT_DURATION: Final = "astromesh.rag.document.duration"
REFUSALS: Final = "astromesh.budget.refusals"  # 1 for each budget that was short
USAGE_LOST: Final = "astromesh.usage.lost"  # calls that could not be put on record
SWEEPS_FAILED: Final = "astromesh.memory.sweep.failures"  # 1 for each store, by its kind
RUNS_DELETED: Final = "astromesh.runs.deleted"  # by somebody's wish, at once
RELOADS: Final = "astromesh.reloads"  # 1 for each agent and pipeline, when files are read again

Attribute: TypeAlias = str | bool | int | float | list[str]
Attributes: TypeAlias = Mapping[str, Attribute]


class Span(Protocol):
    """A piece of work that is being traced."""

    def set_attribute(self, key: str, value: Attribute) -> None: ...


class Backend(Protocol):
    """Where spans and metrics go."""

    def span(
        self, name: str, attributes: Attributes, parent: str
    ) -> AbstractContextManager[Span]: ...

    def detached(
        self, name: str, attributes: Attributes, parent: str
    ) -> AbstractContextManager[Span]: ...

    def record(self, name: str, value: float, attributes: Attributes) -> None: ...

    def traceparent(self) -> str: ...


class _Unseen:
    def set_attribute(self, key: str, value: Attribute) -> None:
        pass


_NOWHERE = nullcontext[Span](_Unseen())
_backend: Backend | None = None
_parent: ContextVar[str] = ContextVar("traceparent", default="")


@asynccontextmanager
async def open_telemetry(environment: Mapping[str, str], service: str) -> AsyncIterator[None]:
    """Send spans and metrics of this process while inside, where the environment says so.

    Raises NotReady where it says so and the packages for it are missing.
    """
    global _backend
    endpoint = environment.get(ENDPOINT)
    if not endpoint:
        yield
        return
    try:
        from servers.kernel import otel
    except ModuleNotFoundError as missing:
        raise NotReady(
            f"{ENDPOINT} is set, but {missing.name!r} is not installed: "
            "install the extra 'otel', or unset it",
            reason="EXTRA_MISSING",
            extra="otel",
        ) from missing
    exporting = otel.Exporting(endpoint, service)
    _backend = exporting
    try:
        yield
    finally:
        _backend = None
        await asyncio.to_thread(exporting.close)  # sends what is left


def span(name: str, attributes: Attributes | None = None) -> AbstractContextManager[Span]:
    """Trace what is done inside. An exception marks it as failed."""
    if _backend is None:
        return _NOWHERE
    return _backend.span(name, attributes or {}, _parent.get())


def detached_span(name: str, attributes: Attributes | None = None) -> AbstractContextManager[Span]:
    """As `span`, for work inside a generator: it may be begun in one task and ended in
    another, and what its consumer does between two pieces is not part of it."""
    if _backend is None:
        return _NOWHERE
    return _backend.detached(name, attributes or {}, _parent.get())


def record(name: str, value: float, attributes: Attributes | None = None) -> None:
    """Add a value to the histogram of that name."""
    if _backend is not None:
        _backend.record(name, value, attributes or {})


def counting() -> bool:
    """Whether anybody looks at spans and metrics: ask before computing costly ones."""
    return _backend is not None


def received(traceparent: str) -> None:
    """The work of this task belongs to that trace."""
    _parent.set(traceparent)


@contextmanager
def belonging_to(traceparent: str) -> Iterator[None]:
    """What is done inside belongs to that trace."""
    token = _parent.set(traceparent)
    try:
        yield
    finally:
        _parent.reset(token)


def outgoing_headers() -> dict[str, str]:
    """What to send along with a call to somebody else, so that its spans join this trace."""
    current = _traceparent()
    return {"traceparent": current} if current else {}


def trace_id() -> str:
    """The trace that this task works in, or nothing."""
    parts = _traceparent().split("-")
    return parts[1] if len(parts) == 4 else ""


def _traceparent() -> str:
    return (_backend.traceparent() if _backend is not None else "") or _parent.get()
