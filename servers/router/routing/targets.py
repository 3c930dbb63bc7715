"""From a candidate as an agent names it to what can be asked, and whether it may be."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from servers.domain.chat import ChatRequest, Image, ModelRef, Sampling
from servers.domain.models import Capabilities
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.kinds import PROVIDERS, check_endpoint, kind
from servers.router.ports import (
    ModelSettings,
    Options,
    ProviderSettings,
    RouterSettings,
    Timeouts,
)


@dataclass(frozen=True, slots=True)
class Target:
    """A model at an endpoint under a provider's name: what a breaker stands for."""

    provider: str
    kind: str
    endpoint: str
    model: str
    timeouts: Timeouts = field(default_factory=Timeouts)
    sampling: Sampling = field(default_factory=Sampling)
    api_key: str = field(default="", repr=False)
    api_key_env: str = ""
    declared: ModelSettings = field(default_factory=lambda: ModelSettings(""))
    options: Options = ()

    @property
    def key(self) -> tuple[str, str, str]:
        return self.provider, self.endpoint, self.model

    def credential(self, env: Mapping[str, str]) -> str:
        """The key to send, or "" for an endpoint that wants none. Read at each call."""
        if self.api_key:
            return self.api_key
        if not self.api_key_env:
            return ""
        if value := env.get(self.api_key_env, ""):
            return value
        raise NotReady(
            f"provider {self.provider!r} takes its key from the environment variable "
            f"{self.api_key_env}, which is not set",
            reason="CREDENTIAL_MISSING",
            provider=self.provider,
            variable=self.api_key_env,
        )


def resolve(ref: ModelRef, settings: RouterSettings) -> Target:
    """Raises InvalidInput that names provider and fix."""
    provider = _provider(ref.provider, settings)
    endpoint, model = _endpoint(ref, provider), _model(ref, provider)
    key, variable = _credential(ref, provider, endpoint)
    return Target(
        provider=provider.name,
        kind=provider.kind,
        endpoint=endpoint.rstrip("/"),
        model=model,
        timeouts=_timeouts(ref, provider.timeouts),
        sampling=ref.sampling,
        api_key=key,
        api_key_env=variable,
        declared=_declared(ref, provider, model),
        options=provider.options,
    )


def _provider(name: str, settings: RouterSettings) -> ProviderSettings:
    provider = settings.provider(name)
    try:
        PROVIDERS.check(provider.kind)
    except InvalidInput as unknown:
        if unknown.reason == "NOT_SUPPORTED":
            raise InvalidInput(unknown.message, reason=unknown.reason, provider=name) from None
        declared = ", ".join(sorted(settings.providers)) or "none"
        raise InvalidInput(
            f"no provider {name!r}: declared are {declared}; types are {', '.join(PROVIDERS)}",
            reason="PROVIDER_UNKNOWN",
            provider=name,
        ) from None
    return provider


def _endpoint(ref: ModelRef, provider: ProviderSettings) -> str:
    defaults = kind(provider.kind)
    if defaults.folder and ref.endpoint:
        raise InvalidInput(
            f"provider {ref.provider!r} reads a folder of the router's machine, which only "
            "providers.yaml may name: declare a provider there, and leave `endpoint` out",
            reason="FOLDER_DENIED",
            provider=ref.provider,
        )
    endpoint = ref.endpoint or provider.endpoint or defaults.endpoint
    if not endpoint:
        raise InvalidInput(
            f"provider {ref.provider!r} has no endpoint: declare one",
            reason="ENDPOINT_MISSING",
            provider=ref.provider,
        )
    check_endpoint(provider.kind, endpoint)
    return endpoint


def _model(ref: ModelRef, provider: ProviderSettings) -> str:
    first = provider.models[0].name if provider.models else kind(provider.kind).model
    if model := ref.model or first:
        return model
    raise InvalidInput(
        f"provider {ref.provider!r} declares no models: name the model",
        reason="MODEL_MISSING",
        provider=ref.provider,
    )


def _credential(ref: ModelRef, provider: ProviderSettings, endpoint: str) -> tuple[str, str]:
    """Key and variable. What is configured for one endpoint never goes to another."""
    if ref.api_key or ref.api_key_env:
        return ref.api_key, ref.api_key_env
    defaults = kind(provider.kind)
    if endpoint.rstrip("/") != (provider.endpoint or defaults.endpoint).rstrip("/"):
        return "", ""
    if provider.api_key or provider.api_key_env or (provider.endpoint and defaults.endpoint):
        return provider.api_key, provider.api_key_env
    return "", defaults.api_key_env


def _timeouts(ref: ModelRef, configured: Timeouts) -> Timeouts:
    if ref.timeout is None:
        return configured
    limit = ref.timeout
    return Timeouts(
        min(limit, configured.connect),
        min(limit, configured.first_token),
        min(limit, configured.between_tokens),
        limit,
    )


def _declared(ref: ModelRef, provider: ProviderSettings, model: str) -> ModelSettings:
    found = next((each for each in provider.models if each.name == model), ModelSettings(model))
    if ref.context_window is None:
        return found
    wider = replace(found.capabilities, context_window=ref.context_window)
    return replace(found, capabilities=wider)


def combined(declared: Capabilities, known: Capabilities) -> Capabilities:
    """What was declared, and where nothing was, what the adapter knows."""

    def first(mine: bool | None, theirs: bool | None) -> bool | None:
        return theirs if mine is None else mine

    return Capabilities(
        first(declared.tools, known.tools),
        first(declared.vision, known.vision),
        first(declared.json_schema, known.json_schema),
        declared.streaming and known.streaming,
        declared.context_window or known.context_window,
        # A manifest that says something of tools says all of it.
        (known if declared.tools is None else declared).emulated_tools,
    )


@dataclass(frozen=True, slots=True)
class Needs:
    """What a request asks of a model."""

    tools: bool = False
    vision: bool = False
    json_schema: bool = False
    fitting: bool = False  # an answer of a given form, which is asked for in words where need be

    def missing(self, able: Capabilities) -> tuple[str, ...]:
        """What is needed and declared not to be there; nothing declared is no refusal."""
        found = []
        if self.tools and able.tools is False and not able.emulated_tools:
            found.append("tools")
        if self.vision and able.vision is False:
            found.append("vision")
        if self.json_schema and able.json_schema is False:
            found.append("json_schema")
        return tuple(found)


def needs(request: ChatRequest) -> Needs:
    return Needs(
        tools=bool(request.tools),
        vision=any(isinstance(part, Image) for m in request.messages for part in m.parts),
        json_schema=_is_schema(request.sampling.extra.get("response_format")),
        fitting=request.output_schema is not None,
    )


def _is_schema(wanted: object) -> bool:
    return isinstance(wanted, Mapping) and wanted.get("type") == "json_schema"
