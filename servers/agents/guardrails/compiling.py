"""From rules as they were written to rules at work."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

from servers.agents.guardrails.contents import ContentScanner
from servers.agents.guardrails.pii import PiiScanner
from servers.agents.guardrails.rules import CostLimit, Judge, Rule, Rules
from servers.agents.guardrails.spans import Scanner
from servers.agents.guardrails.stages import Cutting, Limiting, Spans, Stage, Watching
from servers.agents.guardrails.topics import TopicScanner
from servers.agents.manifest.guardrails import (
    ContentOptions,
    CostOptions,
    Guardrail,
    Guardrails,
    LengthOptions,
    ModelGuardOptions,
    Options,
    PiiOptions,
    TopicOptions,
    action_of,
    options_of,
)
from servers.domain.runs import Direction


def compiled(guardrails: Guardrails) -> Rules:
    """Of rules that nothing is wrong with."""
    return Rules(
        tuple(_text_rules(guardrails.input)),
        tuple(_text_rules(guardrails.output)),
        (
            *_cost_limits(guardrails.input, Direction.INPUT),
            *_cost_limits(guardrails.output, Direction.OUTPUT),
        ),
        tuple(_judges(guardrails.input)),
        tuple(_judges(guardrails.output)),
    )


def _text_rules(rules: Iterable[Guardrail]) -> Iterator[Rule]:
    for rule in rules:
        options, action = options_of(rule), action_of(rule)
        if opened := _opened(options, action):
            tools = getattr(options, "tools", True)
            measures = isinstance(options, LengthOptions)
            yield Rule(rule.type, action, rule.message, opened, tools, measures)


def _opened(options: Options, action: str) -> Callable[[], Stage] | None:
    scanner: Scanner
    match options:
        case PiiOptions():
            scanner = PiiScanner(options.entities)
        case TopicOptions():
            scanner = TopicScanner(options.topics)
        case ContentOptions():
            scanner = ContentScanner(options.keywords or (), options.patterns or ())
        case LengthOptions():
            return _length(options.max_chars, action)
        case _:
            return None
    if action == "warn":
        return lambda: Watching(Spans(scanner, blocks=False))
    return partial(Spans, scanner, blocks=action == "block")


def _length(most: int, action: str) -> Callable[[], Stage]:
    if action == "warn":
        return lambda: Watching(Cutting(most))
    return partial(Limiting if action == "block" else Cutting, most)


def _cost_limits(rules: Iterable[Guardrail], direction: Direction) -> Iterator[CostLimit]:
    for rule in rules:
        options = options_of(rule)
        if isinstance(options, CostOptions):
            usd, tokens = options.max_usd, options.max_tokens
            yield CostLimit(action_of(rule), rule.message, direction, usd, tokens)


def _judges(rules: Iterable[Guardrail]) -> Iterator[Judge]:
    for rule in rules:
        options = options_of(rule)
        if isinstance(options, ModelGuardOptions):
            yield Judge(
                action_of(rule),
                rule.message,
                options.question,
                options.role,
                options.on_error == "pass",
                options.timeout,
            )
