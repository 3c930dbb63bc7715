"""Providers, models and breakers as they are listed."""

from collections.abc import Iterable, Sequence
from operator import attrgetter

from servers.domain.models import Capabilities, ModelInfo, ProviderInfo
from servers.kernel.errors import AstromeshError, NotFound
from servers.router.kinds import kind
from servers.router.lanes.lanes import Lane, Lanes, breaker_info
from servers.router.ports import (
    BreakerKey,
    ModelSettings,
    Providers,
    ProviderSettings,
    RouterSettings,
)
from servers.router.routing.prices import PriceList
from servers.router.routing.targets import combined


def models(settings: RouterSettings, adapters: Providers, prices: PriceList) -> Sequence[ModelInfo]:
    """Every declared model, by provider and then by name."""
    return [
        _model(provider, model, adapters, prices)
        for _, provider in sorted(settings.providers.items())
        for model in sorted(declared_models(provider), key=attrgetter("name"))
    ]


def providers(settings: RouterSettings, lanes: Lanes) -> Sequence[ProviderInfo]:
    """Declared providers and those that only requests have named, by name."""
    named = settings.providers.keys() | {key[0] for key, _ in lanes.all()}
    return [_provider(settings.provider(name), lanes) for name in sorted(named)]


def breaker_keys(
    provider: str, model: str, settings: RouterSettings, lanes: Lanes
) -> Sequence[BreakerKey]:
    """The breakers that a provider's name and a model's (or "" for all) mean."""
    known = [key for key, _ in lanes.of(provider)]
    if provider not in settings.providers and not known:
        raise NotFound(f"no provider is named {provider!r}", provider=provider)
    declared = settings.provider(provider)
    names = [each.name for each in declared_models(declared)]
    keys = [(provider, endpoint_of(declared), name) for name in names]
    return [key for key in dict.fromkeys(keys + known) if model in ("", key[2])]


def declared_models(provider: ProviderSettings) -> tuple[ModelSettings, ...]:
    own = kind(provider.kind).model
    return provider.models or ((ModelSettings(own),) if own else ())


def endpoint_of(provider: ProviderSettings) -> str:
    return (provider.endpoint or kind(provider.kind).endpoint).rstrip("/")


def _model(
    provider: ProviderSettings, model: ModelSettings, adapters: Providers, prices: PriceList
) -> ModelInfo:
    endpoint = endpoint_of(provider)
    known = _known(provider, endpoint, model.name, adapters)
    price = model.price or prices.price(provider.kind, endpoint, model.name)
    return ModelInfo(
        provider.name,
        model.name,
        combined(model.capabilities, known),
        price.input if price else None,
        price.output if price else None,
        price.cached if price else None,
        model.quality_rank,
        kind(provider.kind).does,
    )


def _known(
    provider: ProviderSettings, endpoint: str, model: str, adapters: Providers
) -> Capabilities:
    """Nothing of a provider that can't be made: the others are listed all the same."""
    try:
        return adapters.get(provider.kind, endpoint, provider.options).capabilities(model)
    except AstromeshError:
        return Capabilities()


def _provider(provider: ProviderSettings, lanes: Lanes) -> ProviderInfo:
    mine, endpoint = list(lanes.of(provider.name)), endpoint_of(provider)
    # An agent may name the provider and another address: what is heard from there is not of here.
    here = [lane for (_, address, _), lane in mine if endpoint in ("", address)]
    health = lanes.health.get(provider.name)
    healthy, detail = health if health is not None else _heard(here)
    gate = lanes.gate(provider.name, provider.limits)
    return ProviderInfo(
        name=provider.name,
        kind=provider.kind,
        endpoint=endpoint,
        healthy=healthy,
        detail=detail,
        latency=_mean(lane.latency for lane in here),
        first_token=_mean(lane.first_token for lane in here),
        active=gate.active,
        waiting=gate.waiting,
        models=tuple(each.name for each in declared_models(provider)),
        breakers=tuple(breaker_info(key, lane.breaker) for key, lane in mine),
    )


def _heard(lanes: Sequence[Lane]) -> tuple[bool | None, str]:
    """What calls tell of a provider that is not probed: well if any model of it answers."""
    troubles = [lane.trouble for lane in lanes if lane.trouble is not None]
    if not troubles:
        return None, ""
    return "" in troubles, next((each for each in troubles if each), "")


def _mean(measured: Iterable[float | None]) -> float | None:
    known = [each for each in measured if each is not None]
    return sum(known) / len(known) if known else None
