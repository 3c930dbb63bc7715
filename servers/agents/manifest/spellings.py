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
_GUARDRAIL_OPTIONS = {
    "max_characters": "max_chars",
    "blocked_topics": "topics",
    "forbidden_topics": "topics",
    "blocked_keywords": "keywords",
    "forbidden_keywords": "keywords",
    "blocked_patterns": "patterns",
    "forbidden_patterns": "patterns",
    "max_cost_usd": "max_usd",
    "max_tokens_per_turn": "max_tokens",
    "entity_types": "entities",
}
_ENTITIES = {
    "email_address": "email",
    "phone_number": "phone",
    "us_ssn": "ssn",
    "card": "credit_card",
    "iban_code": "iban",
    "ip_address": "ip",
    "ipv4": "ip",
}


def respell(spelling: Spelling) -> None:
    _models(spelling)
    _memory(spelling)
    spelling.rename("spec.orchestration", {"timeout": "timeout_seconds"})
    spelling.unzip("spec.orchestration", "stages", {"prompt": "stage_prompts"})
    spelling.named("spec.tools.*", "name")
    spelling.words("spec.tools.*.type", {"builtin": "internal"})
    spelling.reshape("spec.tools.*.parameters", object_schema)
    spelling.reshape("spec.output_schema", answer_schema)
    _guardrails(spelling)


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


def _guardrails(spelling: Spelling) -> None:
    for rule in ("spec.guardrails.input.*", "spec.guardrails.output.*"):
        spelling.gather(rule, _GUARDRAIL_KEYS, into="options")
        spelling.rename(f"{rule}.options", _GUARDRAIL_OPTIONS)
        for texts in ("entities", "topics", "keywords", "patterns"):
            spelling.listed(f"{rule}.options.{texts}")
        spelling.reshape(f"{rule}.options.entities.*", _entity)
        spelling.words(f"{rule}.type", {"pii_redaction": "pii_detection", "pii": "pii_detection"})
        spelling.words(f"{rule}.action", {"truncate": "redact"})


def _entity(value: Any) -> Any:
    word = value.lower() if isinstance(value, str) else value
    return _ENTITIES.get(word, word) if isinstance(word, str) else value


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
