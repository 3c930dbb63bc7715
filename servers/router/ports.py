"""What the router needs from the outside, and the values it is configured with."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from servers.domain.caller import Account
from servers.domain.chat import Completion, Json, Message, Notice, Sampling, Step, ToolSpec, Usage
from servers.domain.embeddings import Purpose, Vector
from servers.domain.models import Capabilities
from servers.domain.usage import BudgetState, UsageQuery, UsageRow
from servers.kernel.errors import InvalidInput, Unavailable


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for a provider, in seconds."""

    connect: float = 5.0
    first_token: float = 60.0  # from the request to the first sign of an answer
    between_tokens: float = 30.0
    total: float = 600.0  # one attempt, from the request to the end


@dataclass(frozen=True, slots=True)
class Ask:
    """One attempt at one provider: everything is decided, only the answer is missing."""

    model: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    timeouts: Timeouts = field(default_factory=Timeouts)
    api_key: str = field(default="", repr=False)
    output_schema: Json | None = None  # goes out in the provider's own form; checked above


@dataclass(frozen=True, slots=True)
class EmbedAsk:
    """One batch of texts for one embedding model."""

    model: str
    texts: tuple[str, ...]
    purpose: Purpose = Purpose.DOCUMENT
    dimensions: int | None = None  # None: the model's own
    timeouts: Timeouts = field(default_factory=Timeouts)
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Embedded:
    """One vector a text, in order, as the model gives them: the router checks and normalises."""

    vectors: tuple[Vector, ...]
    usage: Usage
    model: str = ""  # as the provider names it; empty: as asked


@dataclass(frozen=True, slots=True)
class RerankAsk:
    """A query and the documents to be scored against it by one model."""

    model: str
    query: str
    documents: tuple[str, ...]
    timeouts: Timeouts = field(default_factory=Timeouts)
    api_key: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Reranked:
    """One score a document, in the order of the documents."""

    scores: tuple[float, ...]
    usage: Usage
    model: str = ""


class ProviderDown(Unavailable):
    """The provider could not answer: its breaker counts it, and another one is tried.

    `pause` is how long it asked to be left alone, in seconds; 0 where it did not say.
    Anything else that a provider raises is the caller's or the configuration's fault.
    """

    def __init__(self, message: str, *, reason: str = "", pause: float = 0.0) -> None:
        super().__init__(message, reason=reason, retry_after=pause or None)
        self.pause = pause


class ProviderBusy(ProviderDown):
    """Too many wait for it already. It is not down: its breaker counts nothing, and another
    one is tried."""

    def __init__(self, message: str, *, pause: float) -> None:
        super().__init__(message, reason="PROVIDER_BUSY", pause=pause)


class Provider(Protocol):
    """Speaks to one endpoint. Specification: tests/contract/test_providers.py.

    Raises ProviderDown where the provider failed, InvalidInput where it refused the
    request, NotReady where the configuration is wrong (key, model, address).
    """

    @property
    def endpoint(self) -> str: ...

    def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        """Pieces as they arrive, then one Finish. Closing it ends the provider's work."""
        ...

    async def complete(self, ask: Ask) -> Completion:
        """The same in one piece, for who needs no pieces: cheaper for both sides."""
        ...

    async def health(self, api_key: str) -> None:
        """Returns where the provider can be reached; raises ProviderDown where not."""
        ...

    def capabilities(self, model: str) -> Capabilities:
        """What this kind of provider knows of itself; a manifest's word goes before."""
        ...


class Embedder(Protocol):
    """Embeds texts. Specification: tests/contract/test_embedders.py. Errors as of Provider."""

    async def embed(self, ask: EmbedAsk) -> Embedded: ...


class Reranker(Protocol):
    """Scores documents. Specification: tests/contract/test_rerankers.py. Errors as of Provider."""

    async def rerank(self, ask: RerankAsk) -> Reranked: ...


class TokenCounter(Protocol):
    """Counts by the tokenizer of the model itself. Errors as of Provider."""

    async def count_tokens(self, ask: Ask) -> int:
        """What the prompt of `ask` has, its tools and the chat template's own tokens included."""
        ...


BreakerKey: TypeAlias = tuple[str, str, str]  # provider, endpoint, model


class Board(Protocol):
    """What replicas tell one another of breakers. Specification: tests/contract/test_board.py.

    Telling never fails and never waits: without the others each replica goes by what it
    finds out itself.
    """

    def opened(self, key: BreakerKey, seconds: float) -> None:
        """It is left alone for so long; infinitely where somebody opened it by hand."""
        ...

    def closed(self, key: BreakerKey) -> None: ...

    async def probe(self, key: BreakerKey, seconds: float) -> bool:
        """Whether this replica is the one that may send the probe, which takes at most so long."""
        ...

    async def listen(self, heard: Callable[[BreakerKey, float], None]) -> None:
        """For ever: what others say. Seconds that it is left alone; 0: it was closed."""
        ...


@dataclass(frozen=True, slots=True)
class Tokenizer:
    name: str
    count: Callable[[str], int]  # tokens of a text, special ones as plain text


class Tokenizers(Protocol):
    """Tokenizers that are at hand here, by the names of models."""

    def of(self, model: str) -> Tokenizer | None:
        """None where none is known. May take a while and is to be called in a thread."""
        ...


# What a type of provider can be told besides its endpoint, by the names in `kinds.Kind.options`.
Options: TypeAlias = tuple[tuple[str, str | int | float | bool], ...]


class Providers(Protocol):
    """Makes and keeps providers; the same kind, endpoint and options give the same one.

    What a provider can do besides chats, or instead of them, its Kind says (`kinds.Kind.does`).
    """

    def get(self, kind: str, endpoint: str, options: Options = ()) -> Provider:
        """Raises InvalidInput for a kind that does not exist, NotReady for one whose
        packages are missing."""
        ...

    def embedder(self, kind: str, endpoint: str, options: Options = ()) -> Embedder: ...

    def reranker(self, kind: str, endpoint: str, options: Options = ()) -> Reranker: ...

    def counter(self, kind: str, endpoint: str, options: Options = ()) -> TokenCounter: ...


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call may cost, or did. `usd` None: the price is unknown."""

    tokens: int
    usd: float | None


class Reservation(Protocol):
    """Money and tokens set aside for one call at a model. Settle or release it, once."""

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Of budgets that only warn, and are spent."""
        ...

    async def settle(self, usage: Usage, operation: str, outcome: str = "ok") -> None:
        """Put what was used in the place of what was set aside, and on record.

        `operation` is "chat", "embed" or "rerank"; `outcome` "ok", "cut_off", "hedged" (a
        hedge that lost) or "failed".
        """
        ...

    async def release(self) -> None:
        """Nothing was used."""
        ...


class Spending(Protocol):
    """Budgets and the record of what was used. Specification: tests/contract/test_spending.py."""

    async def reserve(self, account: Account, provider: str, model: str, most: Cost) -> Reservation:
        """Set `most` aside in every hard budget that counts this call, all or none, atomically.

        Raises Exhausted (BUDGET_EXCEEDED) with a violation for each budget that has not got
        so much left, and with retry_after where its window ends; NotReady (PRICE_UNKNOWN)
        where a hard budget in USD counts a call whose price is unknown.
        """
        ...

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]: ...

    async def budgets(self, tenant: str, name: str = "") -> Sequence[BudgetState]: ...


@dataclass(frozen=True, slots=True)
class Price:
    """USD per million tokens. None is unknown, not free."""

    input: float | None = None
    output: float | None = None
    cached: float | None = None  # None: as `input`


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """What a ProviderConfig says of one model."""

    name: str
    capabilities: Capabilities = field(default_factory=Capabilities)
    price: Price | None = None  # None: look it up in the price list
    quality_rank: int | None = None  # 1 is best; None: behind all that have one
    dimensions: int | None = None  # of an embedding model: another length is an error
    max_output: int | None = None  # tokens; what budgets set aside where a call has no max_tokens


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider may be asked at once and in a minute. None: no limit."""

    concurrency: int | None = None  # calls at work
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None  # prompt and answer together
    max_wait: float = 10.0  # seconds that a call waits for a place when nobody else can answer
    max_waiting: int = 100  # calls that wait; more are refused at once


@dataclass(frozen=True, slots=True)
class Retries:
    """Once every candidate has failed, they are asked again, after a random part of a delay
    that doubles (full jitter)."""

    max_retries: int = 1
    base_delay: float = 0.2  # seconds
    max_delay: float = 5.0
    on: frozenset[str] = frozenset({"connection", "server_error", "rate_limit", "timeout"})


@dataclass(frozen=True, slots=True)
class Hedging:
    """When a second candidate is asked, for requests that want it."""

    percentile: float = 0.95  # of the times to the first piece that were seen
    min_delay: float = 0.1  # seconds; also where nothing was seen yet, times ten
    window: int = 100  # as many of the last times are remembered


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """One entry under `providers:` of a ProviderConfig."""

    name: str
    kind: str
    endpoint: str = ""  # empty: the kind's own
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""
    models: tuple[ModelSettings, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    health_check_interval: float = 0.0  # seconds; 0: only calls tell
    limits: Limits = field(default_factory=Limits)
    options: Options = ()


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """All ProviderConfigs together."""

    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    default_strategy: str = ""
    fallback_enabled: bool = True
    failure_threshold: int = 3
    recovery_timeout: float = 60.0  # seconds
    retries: Retries = field(default_factory=Retries)
    hedging: Hedging = field(default_factory=Hedging)

    def provider(self, name: str) -> ProviderSettings:
        """The declared provider, or one made of nothing but a type ("ollama")."""
        return self.providers.get(name) or ProviderSettings(name=name, kind=name)

    def merged(self, other: "RouterSettings") -> "RouterSettings":
        """Both; a provider in both is an error, `other` decides how to route."""
        for name in self.providers.keys() & other.providers.keys():
            raise InvalidInput(f"provider {name!r} is declared twice", provider=name)
        return RouterSettings(
            {**self.providers, **other.providers},
            other.default_strategy or self.default_strategy,
            other.fallback_enabled,
            other.failure_threshold,
            other.recovery_timeout,
            other.retries,
            other.hedging,
        )
