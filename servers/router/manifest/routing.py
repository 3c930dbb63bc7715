"""What a ProviderConfig says of routing: strategy, breakers, retries, hedging, and limits."""

from typing import Annotated, Literal

from pydantic import Field

from servers.kernel.fields import Count, Flag, Number, Seconds, Whole
from servers.kernel.manifest import Strict
from servers.router.ports import Hedging, Limits, Retries, RouterSettings

_ERRORS = Literal["connection", "timeout", "rate_limit", "server_error"]


class ProviderLimits(Strict):
    """What a provider may be asked at once and in a minute; without a key, without a limit."""

    concurrency: Count | None = None
    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    max_wait: Annotated[Number, Field(ge=0)] = Limits().max_wait
    max_waiting: Annotated[Whole, Field(ge=0)] = Limits().max_waiting

    def settings(self) -> Limits:
        return Limits(
            self.concurrency,
            self.requests_per_minute,
            self.tokens_per_minute,
            self.max_wait,
            self.max_waiting,
        )


class CircuitBreaker(Strict):
    failure_threshold: Count = RouterSettings().failure_threshold
    recovery_timeout: Seconds = RouterSettings().recovery_timeout


class RetryPolicy(Strict):
    """Asking all candidates again when every one of them has failed."""

    max_retries: Annotated[Whole, Field(ge=0, le=10)] = Retries().max_retries
    base_delay: Seconds = Retries().base_delay
    max_delay: Seconds = Retries().max_delay
    on: tuple[_ERRORS, ...] = ("connection", "timeout", "rate_limit", "server_error")

    def settings(self) -> Retries:
        return Retries(self.max_retries, self.base_delay, self.max_delay, frozenset(self.on))


class HedgePolicy(Strict):
    """When a second candidate is asked, for agents and requests that want it (`hedge`)."""

    percentile: Annotated[Number, Field(gt=0, lt=1)] = Hedging().percentile
    min_delay: Seconds = Hedging().min_delay

    def settings(self) -> Hedging:
        return Hedging(self.percentile, self.min_delay)


class ProviderRouting(Strict):
    default_strategy: (
        Literal[
            "in_order",
            "cost_optimized",
            "latency_optimized",
            "quality_first",
            "round_robin",
            "capability_match",
        ]
        | None
    ) = None
    fallback_enabled: Flag = True
    circuit_breaker: CircuitBreaker = CircuitBreaker()
    retries: RetryPolicy = RetryPolicy()
    hedging: HedgePolicy = HedgePolicy()
