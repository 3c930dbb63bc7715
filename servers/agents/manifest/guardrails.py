"""spec.guardrails: what must not come in or go out, and what each rule may say."""

from collections.abc import Iterable, Iterator
from typing import Annotated, Literal, Self, TypeAlias
from unicodedata import category

import re2
from pydantic import Field, ValidationError, field_validator, model_validator

from servers.kernel.explain import explained, nearest
from servers.kernel.fields import Count, Flag, FreeJson, Number, Seconds
from servers.kernel.manifest import Strict
from servers.kernel.paths import Path, Wrong

ACTIONS = ("redact", "block", "warn")
_BETWEEN = "_'\u2019\u2010\u2011\u2012\u2013\u2014\u2015\u200c\u200d-"  # the words of a phrase
_LARGEST = 2_000  # characters of a pattern or a keyword
Entity = Literal["email", "phone", "ssn", "credit_card", "iban", "ip"]
_Text = Annotated[str, Field(min_length=1, max_length=_LARGEST)]


class Guardrail(Strict):
    """One rule. Keys that aren't listed here are its `options`."""

    type: str
    action: str = ""
    message: str = ""
    options: FreeJson = {}  # noqa: RUF012  # pydantic copies defaults


class Guardrails(Strict):
    input: tuple[Guardrail, ...] = ()
    output: tuple[Guardrail, ...] = ()


class PiiOptions(Strict):
    entities: Annotated[tuple[Entity, ...], Field(min_length=1)] | None = None
    tools: Flag = True


class TopicOptions(Strict):
    topics: Annotated[tuple[_Text, ...], Field(min_length=1)]
    tools: Flag = True

    @field_validator("topics")
    @classmethod
    def _has_words(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        for topic in topics:
            marks = [char for char in topic if category(char)[0] not in "LMN"]
            if not all(char.isspace() or char in _BETWEEN for char in marks):
                says = "has more than words in it; use content_filter for marks"
                raise ValueError(f"{topic[:60]!r} {says}")
            if len(marks) == len(topic):
                raise ValueError(f"{topic[:60]!r} has no word in it")
        return topics


class ContentOptions(Strict):
    keywords: Annotated[tuple[_Text, ...], Field(min_length=1)] | None = None
    patterns: Annotated[tuple[_Text, ...], Field(min_length=1)] | None = None
    tools: Flag = True

    @field_validator("patterns")
    @classmethod
    def _compile(cls, patterns: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for pattern in patterns or ():
            try:
                matches_nothing = compiled_pattern(pattern).fullmatch("") is not None
            except re2.error as error:
                raise ValueError(f"{pattern[:60]!r} doesn't compile: {_said(error)}") from None
            if matches_nothing:
                raise ValueError(f"{pattern[:60]!r} matches the empty text, and so everywhere")
        return patterns

    @model_validator(mode="after")
    def _looks_for_something(self) -> Self:
        if not (self.keywords or self.patterns):
            raise ValueError("looks for nothing; add `keywords` or `patterns`")
        try:
            any_keyword(self.keywords or ())
        except re2.error as error:
            raise ValueError(f"the keywords are too many: {_said(error)}") from None
        return self


class LengthOptions(Strict):
    max_chars: Count
    tools: Flag = False


class CostOptions(Strict):
    max_usd: Annotated[Number, Field(gt=0)] | None = None
    max_tokens: Count | None = None

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.max_usd is None and self.max_tokens is None:
            raise ValueError("limits nothing; add `max_usd` or `max_tokens`")
        return self


class ModelGuardOptions(Strict):
    question: Annotated[str, Field(min_length=1)]
    role: str = "default"
    on_error: Literal["block", "pass"] = "block"
    timeout: Seconds = 30.0


Options: TypeAlias = (
    PiiOptions | TopicOptions | ContentOptions | LengthOptions | CostOptions | ModelGuardOptions
)
# What a rule of a type may say, and what it does: the first action where none is named.
RULES: dict[str, tuple[type[Options], tuple[str, ...]]] = {
    "pii_detection": (PiiOptions, ("redact", "block", "warn")),
    "topic_filter": (TopicOptions, ("block", "redact", "warn")),
    "content_filter": (ContentOptions, ("block", "redact", "warn")),
    "max_length": (LengthOptions, ("redact", "block", "warn")),
    "cost_limit": (CostOptions, ("block", "warn")),
    "model_guard": (ModelGuardOptions, ("block", "warn")),
}


def options_of(rule: Guardrail) -> Options:
    """Of a rule that nothing is wrong with."""
    return RULES[rule.type][0].model_validate(rule.options)


def action_of(rule: Guardrail) -> str:
    return rule.action or RULES[rule.type][1][0]


def compiled_pattern(pattern: str) -> re2._Regexp:
    """In linear time, whatever the pattern and the text. Raises re2.error."""
    options = re2.Options()
    options.log_errors = False  # to stderr, besides raising them
    return re2.compile(pattern, options=options)


def any_keyword(keywords: Iterable[str]) -> re2._Regexp:
    """Where one of them stands, whatever its case."""
    return compiled_pattern("(?i)(?:" + "|".join(map(re2.escape, keywords)) + ")")


def wrong_rules(guardrails: Guardrails, roles: Iterable[str]) -> Iterator[Wrong]:
    """All that is wrong with the rules. `roles` are those that the agent's models have."""
    known = sorted({*roles, "default"})
    for side in ("input", "output"):
        for index, rule in enumerate(getattr(guardrails, side)):
            yield from _wrong(rule, ("spec", "guardrails", side, index), known)


def _wrong(rule: Guardrail, place: Path, roles: list[str]) -> Iterator[Wrong]:
    if rule.type not in RULES:
        hint = nearest(rule.type, list(RULES))
        yield Wrong((*place, "type"), f"unknown value {rule.type[:60]!r}{hint}")
        return
    kind, actions = RULES[rule.type]
    if rule.action and rule.action not in ACTIONS:
        hint = nearest(rule.action, list(actions))
        yield Wrong((*place, "action"), f"unknown value {rule.action[:60]!r}{hint}")
    elif rule.action and rule.action not in actions:
        says = f"{rule.type} can't {rule.action}; its actions are {', '.join(actions)}"
        yield Wrong((*place, "action"), says)
    try:
        options = kind.model_validate(rule.options)
    except ValidationError as error:
        for path, says in explained(kind, error):
            yield Wrong((*place, "options", *path), says)
        return
    if isinstance(options, ModelGuardOptions) and options.role not in roles:
        says = f"model.roles has no {options.role!r}{nearest(options.role, roles)}"
        yield Wrong((*place, "options", "role"), says)


def _said(error: Exception) -> str:
    said = error.args[0] if error.args else ""
    return said.decode(errors="replace") if isinstance(said, bytes) else str(said)
