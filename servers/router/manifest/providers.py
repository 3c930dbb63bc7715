"""kind: ProviderConfig. Which providers there are, and how calls are routed among them."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import Field

from servers.domain.models import Capabilities
from servers.kernel.errors import InvalidInput
from servers.kernel.explain import nearest
from servers.kernel.fields import Count, Flag, FreeJson, Number, Seconds, Secret
from servers.kernel.manifest import Manifest, Strict
from servers.kernel.paths import Wrong
from servers.kernel.spelling import Spelling
from servers.router.kinds import PROVIDERS, OptionShape, check_endpoint, kind
from servers.router.manifest.routing import ProviderLimits, ProviderRouting
from servers.router.ports import (
    ModelSettings,
    Price,
    ProviderSettings,
    RouterSettings,
    Timeouts,
)

_USD = Annotated[Number, Field(ge=0)]


class ModelPrice(Strict):
    """USD per million tokens. Goes before config/prices.yaml."""

    input: _USD | None = None
    output: _USD | None = None
    cached: _USD | None = None


class Model(Strict):
    """A model, and what it can do where its provider doesn't tell."""

    name: Annotated[str, Field(min_length=1)]
    tools: Flag | Literal["emulated"] | None = None
    vision: Flag | None = None
    json_schema: Flag | None = None
    streaming: Flag = True
    context_window: Count | None = None
    price: ModelPrice | None = None
    quality_rank: Count | None = None
    dimensions: Count | None = None
    max_output: Count | None = None

    def settings(self) -> ModelSettings:
        price = self.price
        return ModelSettings(
            self.name,
            self._capabilities(),
            Price(price.input, price.output, price.cached) if price else None,
            self.quality_rank,
            self.dimensions,
            self.max_output,
        )

    def _capabilities(self) -> Capabilities:
        emulated = self.tools == "emulated"
        return Capabilities(
            False if self.tools == "emulated" else self.tools,
            self.vision,
            self.json_schema,
            self.streaming,
            self.context_window,
            emulated,
        )


class ProviderTimeouts(Strict):
    """Seconds; what is not said is the router's own."""

    connect: Seconds = Timeouts().connect
    first_token: Seconds = Timeouts().first_token
    between_tokens: Seconds = Timeouts().between_tokens
    total: Seconds = Timeouts().total


class Provider(Strict):
    type: Annotated[str, Field(min_length=1)]
    endpoint: str = ""
    api_key: Secret = ""
    api_key_env: str = ""
    models: tuple[Model, ...] = ()
    timeouts: ProviderTimeouts = ProviderTimeouts()
    limits: ProviderLimits = ProviderLimits()
    health_check_interval: Seconds | None = None
    options: FreeJson = {}  # noqa: RUF012  # pydantic copies defaults

    def settings(self, name: str) -> ProviderSettings:
        timeouts = self.timeouts
        return ProviderSettings(
            name=name,
            kind=self.type,
            endpoint=self.endpoint,
            api_key=self.api_key,
            api_key_env=self.api_key_env,
            models=tuple(model.settings() for model in self.models),
            timeouts=Timeouts(
                timeouts.connect, timeouts.first_token, timeouts.between_tokens, timeouts.total
            ),
            health_check_interval=self.health_check_interval or 0.0,
            limits=self.limits.settings(),
            options=tuple(sorted(self.options.items())),
        )


class ProviderSpec(Strict):
    providers: dict[str, Provider] = {}  # noqa: RUF012  # pydantic copies defaults
    routing: ProviderRouting = ProviderRouting()


class ProviderConfig(Manifest):
    kind: Literal["ProviderConfig"]
    spec: ProviderSpec

    @classmethod
    def respell(cls, spelling: Spelling) -> None:
        spelling.named("spec.providers.*.models.*", "name")
        spelling.rename("spec.providers.*", {"timeout": "timeouts.total"})

    def wrong(self) -> Iterator[Wrong]:
        """Types that no adapter serves. Asked for apart: plugins may add types."""
        for name, provider in self.spec.providers.items():
            place = ("spec", "providers", name)
            try:
                PROVIDERS.check(provider.type)
            except InvalidInput as error:
                yield Wrong((*place, "type"), error.message)
                continue
            try:
                check_endpoint(provider.type, provider.endpoint)
            except InvalidInput as error:
                yield Wrong((*place, "endpoint"), error.message)
            known = kind(provider.type).options
            for option, value in provider.options.items():
                if fault := _wrong_option(option, value, known):
                    yield Wrong((*place, "options", option), fault)

    def settings(self) -> RouterSettings:
        routing = self.spec.routing
        strategy = routing.default_strategy or ""
        return RouterSettings(
            {name: each.settings(name) for name, each in self.spec.providers.items()},
            "" if strategy == "in_order" else strategy,
            routing.fallback_enabled,
            routing.circuit_breaker.failure_threshold,
            routing.circuit_breaker.recovery_timeout,
            routing.retries.settings(),
            routing.hedging.settings(),
        )


def _wrong_option(option: str, value: object, known: Mapping[str, OptionShape]) -> str:
    """What is wrong with an option of a type of provider; empty where nothing is."""
    if option not in known:
        return f"unknown option {option!r}{nearest(option, sorted(known))}"
    match known[option]:
        case tuple(words):
            return "" if value in words else f"is none of {', '.join(words)}"
        case range() as numbers:
            right = type(value) is int and value in numbers
            return "" if right else f"is no whole number from {numbers[0]} to {numbers[-1]}"
        case wanted:
            right = isinstance(value, wanted) or (wanted is float and type(value) is int)
            right = right and (wanted is bool) == isinstance(value, bool)
            return "" if right else f"is no {_TYPES[wanted]}"


_TYPES = {str: "text", int: "whole number", float: "number", bool: "true or false"}
