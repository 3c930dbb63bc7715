"""What the router needs from the outside, and the values it is configured with."""

from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from servers.domain.chat import Completion, Message, Sampling, Step, ToolSpec
from servers.domain.models import Capabilities
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


class ProviderDown(Unavailable):
    """The provider could not answer: its breaker counts it, and another one is tried.

    `pause` is how long it asked to be left alone, in seconds; 0 where it did not say.
    Anything else that a provider raises is the caller's or the configuration's fault.
    """

    def __init__(self, message: str, *, reason: str = "", pause: float = 0.0) -> None:
        super().__init__(message, reason=reason, retry_after=pause or None)
        self.pause = pause


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


class Providers(Protocol):
    """Makes and keeps providers; the same kind and endpoint give the same one."""

    def get(self, kind: str, endpoint: str) -> Provider:
        """Raises InvalidInput for a kind that does not exist."""
        ...


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


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """All ProviderConfigs together."""

    providers: Mapping[str, ProviderSettings] = field(default_factory=dict)
    default_strategy: str = ""
    fallback_enabled: bool = True
    failure_threshold: int = 3
    recovery_timeout: float = 60.0  # seconds

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
        )
