"""Every other spelling of kind Agent that users write, brought to the one the models know."""

from typing import Any

from servers.kernel.spelling import Spelling

_CHOICES = (
    "spec.model.primary",
    "spec.model.fallback.*",
    "spec.model.default.candidates.*",
    "spec.model.roles.*.candidates.*",
)
_SAMPLING = ("temperature", "top_p", "max_tokens", "stop", "seed")
_CHOICE_KEYS = {
    "source": "provider",
    "providerRef": "provider",
    "provider_ref": "provider",
    **{key: f"parameters.{key}" for key in _SAMPLING},
}
_GUARDRAIL_KEYS = frozenset({"type", "action", "message"})


def respell(spelling: Spelling) -> None:
    _models(spelling)
    _memory(spelling)
    spelling.rename("spec.orchestration", {"timeout": "timeout_seconds"})
    spelling.named("spec.tools.*", "name")
    spelling.words("spec.tools.*.type", {"builtin": "internal"})
    spelling.reshape("spec.tools.*.parameters", object_schema)
    spelling.reshape("spec.output_schema", answer_schema)
    for rules in ("spec.guardrails.input", "spec.guardrails.output"):
        spelling.rename(f"{rules}.*", {"max_characters": "max_chars"})
        spelling.gather(f"{rules}.*", _GUARDRAIL_KEYS, into="options")
        spelling.words(f"{rules}.*.type", {"pii_redaction": "pii_detection"})


def _models(spelling: Spelling) -> None:
    spelling.listed("spec.model.fallback")
    spelling.named("spec.model.routing", "strategy")
    for choice in _CHOICES:
        spelling.rename(choice, _CHOICE_KEYS)
        spelling.reshape(f"{choice}.provider", _reference)
        spelling.listed(f"{choice}.parameters.stop")
        spelling.gather(f"{choice}.parameters", frozenset(_SAMPLING), into="extra")


def _memory(spelling: Spelling) -> None:
    talk, facts, events = (f"spec.memory.{k}" for k in ("conversational", "semantic", "episodic"))
    spelling.rename(talk, dict.fromkeys(("window_size", "max_messages"), "max_turns"))
    spelling.lift(talk, "redis", {"url": "connection.url", "ttl": "ttl"}, {"backend": "redis"})
    spelling.rename(facts, {"top_k": "max_results"})
    spelling.words(f"{facts}.backend", {"chromadb": "chroma"})
    spelling.lift(events, "postgres", {"dsn": "connection.url"}, {"backend": "postgres"})
    for place in (talk, events):
        spelling.words(f"{place}.backend", {"postgresql": "postgres"})


def _reference(value: Any) -> Any:
    """``providerRef: {name: x}`` means x."""
    return value["name"] if isinstance(value, dict) and set(value) == {"name"} else value


def object_schema(value: Any) -> Any:
    """A JSON Schema of type object, also from the short form ``{city: {type: string}}``."""
    if not isinstance(value, dict) or not value or "type" in value or "properties" in value:
        return value
    if all(isinstance(each, dict) for each in value.values()):
        return {"type": "object", "properties": value}
    return value


def answer_schema(value: Any) -> Any:
    """As `object_schema`; an answer in the short form has all that is named."""
    schema = object_schema(value)
    return schema if schema is value else {**schema, "required": list(value)}
