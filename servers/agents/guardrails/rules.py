"""The rules of one agent, in the order in which they were written."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from servers.agents.guardrails.stages import Stage
from servers.domain.run_events import Guarded
from servers.domain.runs import Block, Direction

_SIDES = {
    Direction.INPUT: "input",
    Direction.TOOL_RESULT: "input",  # it comes in, too: somebody else wrote it
    Direction.OUTPUT: "output",
    Direction.TOOL_ARGUMENTS: "output",
}
_TOOLS = frozenset({Direction.TOOL_ARGUMENTS, Direction.TOOL_RESULT})


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that looks at texts."""

    name: str  # its type
    action: str
    message: str
    opened: Callable[[], Stage]
    tools: bool = True  # whether it looks at what goes to tools and comes from them
    measures: bool = False  # looks at the length of the whole


@dataclass(frozen=True, slots=True)
class CostLimit:
    """Looked at before a model call: nothing that it stops has been paid for."""

    action: str
    message: str
    direction: Direction
    max_usd: float | None = None
    max_tokens: int | None = None

    @property
    def name(self) -> str:
        return "cost_limit"

    def reached(self, usd: float, tokens: int) -> bool:
        by_price = self.max_usd is not None and usd >= self.max_usd
        return by_price or (self.max_tokens is not None and tokens >= self.max_tokens)


@dataclass(frozen=True, slots=True)
class Judge:
    """A model that is asked about a text."""

    action: str
    message: str
    question: str
    role: str
    passes_on_error: bool
    timeout: float  # seconds

    @property
    def name(self) -> str:
        return "model_guard"


@dataclass(frozen=True, slots=True)
class Checked:
    """`text` as it may go on; empty where the rules block it."""

    text: str
    reports: tuple[Guarded, ...] = ()
    block: Block | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    input: tuple[Rule, ...] = ()
    output: tuple[Rule, ...] = ()
    costs: tuple[CostLimit, ...] = ()
    input_judges: tuple[Judge, ...] = ()
    output_judges: tuple[Judge, ...] = ()

    def of(self, direction: Direction) -> tuple[Rule, ...]:
        rules = self.input if _SIDES[direction] == "input" else self.output
        return tuple(rule for rule in rules if rule.tools or direction not in _TOOLS)

    def judges(self, direction: Direction) -> tuple[Judge, ...]:
        """They look at what the user says and at what he is answered, not at tools."""
        match direction:
            case Direction.INPUT:
                return self.input_judges
            case Direction.OUTPUT:
                return self.output_judges
        return ()

    def stream(self, direction: Direction) -> "StreamGuard":
        return StreamGuard(self.of(direction), direction)

    def unmeasured(self) -> "StreamGuard":
        """For what goes out beside the answers, and may be of any length."""
        rules = tuple(rule for rule in self.of(Direction.OUTPUT) if not rule.measures)
        return StreamGuard(rules, Direction.OUTPUT)

    def check(self, text: str, direction: Direction, call_id: str = "") -> Checked:
        """A text as a whole; tool arguments as the JSON that they are."""
        if not self.of(direction):
            return Checked(text)
        if direction is Direction.TOOL_ARGUMENTS:
            checked = self.check_json(text, direction)
        else:
            checked = _checked(text, self.of(direction), direction)
        reports = tuple(replace(each, call_id=call_id) for each in checked.reports)
        return replace(checked, reports=reports)

    def check_beginning(self, text: str, direction: Direction, call_id: str = "") -> Checked:
        """Of a text that was cut there: without its end where that may be half of what a rule
        would have found. A rule that holds everything takes it for the whole."""
        guard = self.stream(direction)
        kept = guard.feed(text)
        kept = kept or guard.close()
        reports = tuple(replace(each, call_id=call_id) for each in guard.reports)
        return Checked("" if guard.block else kept, reports, guard.block)

    def check_json(self, text: str, direction: Direction) -> Checked:
        """The texts and numbers in a JSON, which stays JSON: it is never cut."""
        rules = self.of(direction)
        looking = tuple(rule for rule in rules if not rule.measures)
        try:
            walk = _Walk(lambda part: _checked(part, looking, direction))
            changed = walk.through(json.loads(text))
        except (ValueError, RecursionError):  # what is no JSON will be refused
            return _checked(text, rules, direction)
        if walk.block:
            return Checked("", walk.reports, walk.block)
        is_same = not any(each.action == "redact" for each in walk.reports)
        kept = text if is_same else json.dumps(changed, ensure_ascii=False)
        measuring = tuple(rule for rule in rules if rule.measures and rule.action != "redact")
        measured = _checked(kept, measuring, direction)
        return replace(measured, reports=(*walk.reports, *measured.reports))

    def block_of(self, report: Guarded) -> Block:
        """What a report of a block, which is all that a log has of it, stood for."""
        costs = tuple(each for each in self.costs if each.direction is report.direction)
        judges = self.judges(report.direction)
        every: tuple[Rule | CostLimit | Judge, ...] = (
            *self.of(report.direction),
            *costs,
            *judges,
        )
        for rule in every:
            if (rule.name, rule.action) == (report.rule, "block"):
                return Block(rule.name, report.direction, rule.message)
        return Block(report.rule, report.direction, "")


def _checked(text: str, rules: tuple[Rule, ...], direction: Direction) -> Checked:
    guard = StreamGuard(rules, direction)
    kept = guard.feed(text) + guard.close()
    return Checked("" if guard.block else kept, guard.reports, guard.block)


class StreamGuard:
    """The rules over a text that comes in pieces.

    What `feed` and `close` give, one after the other, is what `Rules.check` gives for the
    whole. Where the rules block, nothing of what is blocked comes out, nor what follows it;
    what stood before may have.
    """

    def __init__(self, rules: tuple[Rule, ...], direction: Direction) -> None:
        self._rules = rules
        self._stages = [rule.opened() for rule in rules]
        self._direction = direction
        self.block: Block | None = None

    def feed(self, piece: str) -> str:
        return self._through(piece, False)

    def close(self) -> str:
        return self._through("", True)

    @property
    def reports(self) -> tuple[Guarded, ...]:
        """What each rule has done so far."""
        return tuple(
            Guarded(rule.name, self._direction, rule.action, stage.count)
            for rule, stage in zip(self._rules, self._stages, strict=True)
            if stage.count
        )

    def _through(self, piece: str, final: bool) -> str:
        for rule, stage in zip(self._rules, self._stages, strict=True):
            if self.block:
                return ""
            piece = stage.feed(piece, final)
            if stage.blocked:
                self.block = Block(rule.name, self._direction, rule.message)
        return "" if self.block else piece


class _Walk:
    """Through the JSON of a tool call's arguments, keys too."""

    def __init__(self, check: Callable[[str], Checked]) -> None:
        self._check = check
        self._counts: dict[tuple[str, str], Guarded] = {}
        self.block: Block | None = None

    @property
    def reports(self) -> tuple[Guarded, ...]:
        return tuple(self._counts.values())

    def through(self, part: Any) -> Any:
        match part:
            case str():
                return self._checked(part)
            case dict():
                return {self._checked(key): self.through(each) for key, each in part.items()}
            case list():
                return [self.through(each) for each in part]
            case int() | float() if not isinstance(part, bool):
                changed = self._checked(str(part))
                return part if changed == str(part) else changed
        return part

    def _checked(self, text: str) -> str:
        checked = self._check(text)
        self.block = self.block or checked.block
        for report in checked.reports:
            key = report.rule, report.action
            before = self._counts.get(key)
            count = report.count + (before.count if before else 0)
            self._counts[key] = replace(report, count=count)
        return checked.text
