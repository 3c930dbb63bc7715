"""spec.model: which models answer, and which one in which role."""

from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from servers.domain.chat import ModelRef, Sampling
from servers.kernel.fields import Count, Flag, FreeJson, Number, Seconds, Secret, Share, Whole
from servers.kernel.manifest import Strict

Ranking = Literal[
    "in_order",
    "cost_optimized",
    "latency_optimized",
    "quality_first",
    "round_robin",
    "capability_match",
]


_SAMPLING = frozenset({"temperature", "top_p", "max_tokens", "stop", "seed"})
# Parameters that many servers know and the mesh passes on.
_USUAL = frozenset(
    {
        "top_k",
        "min_p",
        "frequency_penalty",
        "presence_penalty",
        "repetition_penalty",
        "repeat_penalty",
        "typical_p",
        "logit_bias",
        "logprobs",
        "top_logprobs",
        "reasoning_effort",
        "response_format",
        "max_completion_tokens",
        "stop_token_ids",
    }
)


class Parameters(Strict):
    """How a model picks its words. Keys that aren't listed here go to the provider as `extra`."""

    temperature: Annotated[Number, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    max_tokens: Count | None = None
    stop: tuple[str, ...] = ()
    seed: Whole | None = None
    extra: FreeJson = {}  # noqa: RUF012  # pydantic copies defaults

    @field_validator("extra")
    @classmethod
    def _no_slips(cls, extra: dict[str, object]) -> dict[str, object]:
        """Anything may go to a provider, but a near miss of what is known here is a slip."""
        for key in extra.keys() - _USUAL:
            if near := get_close_matches(key, _SAMPLING | _USUAL, n=1, cutoff=0.8):
                raise ValueError(f"unknown parameter {key!r}; did you mean {near[0]!r}?")
        return extra

    def sampling(self) -> Sampling:
        return Sampling(
            self.temperature, self.top_p, self.max_tokens, self.stop, self.seed, self.extra
        )


class ModelChoice(Strict):
    """A model at a provider. What is not said here, the ProviderConfig says."""

    also: ClassVar[tuple[str, ...]] = (
        "source",
        "providerRef",
        "temperature",
        "top_p",
        "max_tokens",
    )

    provider: Annotated[str, Field(min_length=1)]
    model: str = ""
    endpoint: str = ""
    api_key_env: str = ""
    api_key: Secret = ""
    parameters: Parameters = Parameters()
    timeout: Seconds | None = None
    context_window: Count | None = None

    @field_validator("endpoint", "api_key", "api_key_env")
    @classmethod
    def _expanded(cls, value: str) -> str:
        """Through the API no variables are expanded: it would hand out our environment."""
        if "${" in value:
            raise ValueError("holds a variable, which only files may do; use api_key_env for a key")
        return value

    @cached_property
    def ref(self) -> ModelRef:
        """Always the same: the router remembers what it has found out about one."""
        return ModelRef(
            provider=self.provider,
            model=self.model,
            endpoint=self.endpoint,
            api_key_env=self.api_key_env,
            api_key=self.api_key,
            timeout=self.timeout,
            context_window=self.context_window,
            sampling=self.parameters.sampling(),
        )


class Candidates(Strict):
    candidates: Annotated[tuple[ModelChoice, ...], Field(min_length=1)]
    strategy: Ranking | None = None


class Routing(Strict):
    strategy: Ranking | None = None
    health_check_interval: Seconds | None = None
    hedge: Flag | None = None
    cache_ttl: Seconds | None = None


class ModelPolicy(Strict):
    """`primary` with `fallback`, or `default` with `roles`."""

    primary: ModelChoice | None = None
    fallback: tuple[ModelChoice, ...] = ()
    routing: Routing = Routing()
    default: Candidates | None = None
    roles: dict[str, Candidates] = {}  # noqa: RUF012  # pydantic copies defaults

    @model_validator(mode="after")
    def _names_a_model(self) -> Self:
        if self.primary is None and self.default is None:
            raise ValueError("names no model; add `primary`, or `default` with `candidates`")
        if self.primary is None and self.fallback:
            raise ValueError("has a `fallback` without a `primary`")
        return self

    def choices(self, role: str) -> tuple[ModelChoice, ...]:
        """The candidates of a role, best first: its own, else the default ones."""
        if found := self.roles.get(role) or self.default:
            return found.candidates
        return (self.primary, *self.fallback) if self.primary else self.fallback

    def strategy(self, role: str) -> str:
        """How they are ranked; empty where that is left to the ProviderConfig."""
        found = self.roles.get(role) or self.default
        return (found.strategy if found else None) or self.routing.strategy or ""
