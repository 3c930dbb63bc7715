"""The rules of an agent at work in a run: on what its models say, what it tells its tools and
what they give, and on what it may cost. All that a run puts on record has gone through here.
"""

import asyncio
from collections.abc import Callable, Iterable, Set
from dataclasses import replace

from servers.agents.guardrails import Checked, Rules, StreamGuard
from servers.agents.runs.judging import Judging
from servers.agents.runs.means import Means
from servers.agents.runs.record.failure import failure_of
from servers.agents.runs.work import Work
from servers.domain.chat import ChatRequest, Finish, ToolCall
from servers.domain.run_events import Decided, Guarded, ReasoningDelta, TextDelta, ToolReturned
from servers.domain.runs import Block, Decision, Direction, Failure
from servers.kernel.errors import AstromeshError
from servers.kernel.result_budget import marker_at

_LARGE = 20_000  # characters; more are checked in a thread


class Blocked(Exception):
    """A guardrail ends the run. An outcome, not an error: patterns let it pass."""

    def __init__(self, block: Block) -> None:
        super().__init__(f"{block.rule} blocks {block.direction.value}")
        self.block = block


async def checked(rules: Rules, text: str, direction: Direction, call_id: str = "") -> Checked:
    return await _unhurried(rules.check, text, direction, call_id)


async def _unhurried(
    check: Callable[[str, Direction, str], Checked], text: str, direction: Direction, call_id: str
) -> Checked:
    if len(text) < _LARGE:
        return check(text, direction, call_id)
    return await asyncio.to_thread(check, text, direction, call_id)


async def checked_decision(rules: Rules, decided: Decided) -> tuple[Decided, tuple[Guarded, ...]]:
    """What a client's tool gave, before it is on record; and what is to be on record with it.
    Where the rules block it nothing of it is left. Arguments that a person has approved stay
    as he approved them."""
    decision: Decision = decided.decision
    found = await checked(rules, decision.content, Direction.TOOL_RESULT, decision.call_id)
    return replace(decided, decision=replace(decision, content=found.text)), found.reports


def failure_told(rules: Rules, error: AstromeshError) -> Failure:
    """An error as it may be told: its message may quote what a model said."""
    failure = failure_of(error)
    if not rules.of(Direction.OUTPUT):
        return failure
    guard = rules.unmeasured()
    message = guard.feed(failure.message) + guard.close()
    return replace(failure, message=_UNTOLD if guard.block else message)


_UNTOLD = "what went wrong can't be told: a guardrail blocks it"


class Guarding:
    """Of one part of a run."""

    def __init__(self, work: Work, means: Means, node: str) -> None:
        self._work = work
        self._means = means
        self._node = node
        self.judging = Judging(work, means)

    async def before_call(self) -> None:
        """Whether a model may be called once more, for what has been used so far."""
        costs = self._means.rules.costs
        usd, tokens = await self._used() if costs else (0.0, 0)
        for limit in costs:
            if not limit.reached(usd, tokens):
                continue
            report = Guarded(limit.name, limit.direction, limit.action)
            if limit.action == "block":
                self.stop((report,), Block(limit.name, limit.direction, limit.message))
            if report not in self._work.warnings:  # once is enough
                self._work.warnings.add(report)
                self._work.journal.emit(report)

    async def _used(self) -> tuple[float, int]:
        """By the run, and by the sub-agents it has asked, in dollars and tokens."""
        work = self._work
        if not work.delegated:
            return work.tally.usd, work.tally.tokens
        below = await work.sub_runs.used(work.run)
        return work.tally.usd + (below.cost_usd or 0.0), work.tally.tokens + below.tokens

    def hearing(self, call: int, request: ChatRequest, plan: bool) -> "Hearing":
        """Of the model call of that number. `plan`: its text is for the pattern, which could do
        nothing with half of it."""
        rules, place = self._means.rules, (call, self._node)
        guard = rules.unmeasured() if plan else rules.stream(Direction.OUTPUT)
        offered = frozenset(tool.name for tool in request.tools)
        is_json = request.output_schema is not None
        return Hearing(self, self._work, rules, place, None if is_json else guard, offered)

    async def result(self, returned: ToolReturned) -> ToolReturned:
        rules, direction = self._means.rules, Direction.TOOL_RESULT
        if not rules.of(direction):
            return returned
        content, end = returned.content, ""
        if returned.truncated_tokens:  # before the rules could see it
            at = marker_at(content)
            content, end = content[:at], content[at:]
        check = rules.check_beginning if end else rules.check
        found = await _unhurried(check, content, direction, returned.call_id)
        self.settle(found.reports, found.block)
        return replace(returned, content=found.text + end)

    async def arguments(self, call: int, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
        rules, direction = self._means.rules, Direction.TOOL_ARGUMENTS
        if not rules.of(direction):
            return calls
        kept = []
        for position, each in enumerate(calls):
            found = await checked(rules, each.arguments, direction, f"{call}.{position}")
            self.settle(found.reports, found.block)
            kept.append(replace(each, arguments=found.text))
        return tuple(kept)

    def named(self, calls: tuple[ToolCall, ...], offered: Set[str]) -> tuple[ToolCall, ...]:
        """The name of a tool that is not there is words of the model like any other."""
        rules = self._means.rules
        if not rules.of(Direction.OUTPUT) or all(each.name in offered for each in calls):
            return calls
        kept = []
        for each in calls:
            if each.name not in offered:
                found = rules.check(each.name, Direction.OUTPUT)
                self.settle(found.reports, found.block)
                each = replace(each, name=found.text)
            kept.append(each)
        return tuple(kept)

    def settle(self, reports: Iterable[Guarded], block: Block | None) -> None:
        """Put on record what rules did. Raises Blocked where they block."""
        if block:
            self.stop(reports, block)
        for report in reports:
            self._work.journal.emit(report)

    def stop(self, reports: Iterable[Guarded], block: Block) -> None:
        self._work.block = self._work.block or block
        for report in reports:
            self._work.journal.emit(report)
        raise Blocked(block)


class Hearing:
    """What a model says in one call, as it may leave."""

    def __init__(
        self,
        guarding: Guarding,
        work: Work,
        rules: Rules,
        place: tuple[int, str],
        guard: StreamGuard | None,
        offered: Set[str],
    ) -> None:
        """`guard`: of its text; None: that is JSON, and looked at as a whole. `offered`: the names
        of the tools it has."""
        self._guarding = guarding
        self._work = work
        self._rules = rules
        self._place = place  # number of the call, and node
        self._offered = offered
        guarded = bool(rules.of(Direction.OUTPUT))
        self._text = guard if guarded else None
        self._thinking = rules.unmeasured() if guarded else None
        self._whole: list[str] | None = [] if guarded and guard is None else None
        self._waits = bool(rules.judges(Direction.OUTPUT))
        self._waiting: list[TextDelta | ReasoningDelta] = []  # for a judge
        self.pieces = 0  # that the model sent
        self.said: list[str] = []
        self.thought: list[str] = []

    def hear(self, text: str) -> None:
        self.pieces += 1
        if self._whole is not None:
            self._whole.append(text)
            return
        self._say(self._fed(self._text, text))

    def think(self, text: str) -> None:
        self.pieces += 1
        self._think(self._fed(self._thinking, text))

    async def end(self, finish: Finish) -> Finish:
        """Let go what was held, and give the end as it may be put on record."""
        try:
            return await self._ended(finish)
        except Blocked:
            self._work.tally.add(finish)  # it was paid for all the same
            self.pieces = 0
            raise

    async def _ended(self, finish: Finish) -> Finish:
        call, _ = self._place
        self._think(self._closed(self._thinking))
        if self._whole is None:
            self._say(self._closed(self._text))
        elif self._whole:
            found = self._rules.check_json("".join(self._whole), Direction.OUTPUT)
            self._guarding.settle(found.reports, found.block)
            self._say(found.text)
        tool_calls = self._guarding.named(finish.tool_calls, self._offered)
        tool_calls = await self._guarding.arguments(call, tool_calls)
        await self._judged()
        unbilled = self._work.take_unbilled()
        if tool_calls is finish.tool_calls and not unbilled:
            return finish
        besides = (*finish.besides, *unbilled)
        return replace(finish, tool_calls=tool_calls, besides=besides)

    async def _judged(self) -> None:
        judging = self._guarding.judging
        if report := await judging.of_input():
            self._guarding.stop((), report)
        text = "".join(each.text for each in self._waiting if isinstance(each, TextDelta))
        if self._waits and text:
            self._guarding.settle(*await judging.of_output(text))
        self._waits = False
        self._let_go()

    def _fed(self, guard: StreamGuard | None, text: str) -> str:
        if guard is None:
            return text
        text = guard.feed(text)
        if guard.block:
            self._guarding.stop(guard.reports, guard.block)
        return text

    def _closed(self, guard: StreamGuard | None) -> str:
        if guard is None:
            return ""
        text = guard.close()
        self._guarding.settle(guard.reports, guard.block)
        return text

    def _say(self, text: str) -> None:
        if text:
            self._emit(TextDelta(text, *self._place))

    def _think(self, text: str) -> None:
        if text:
            self._emit(ReasoningDelta(text, *self._place))

    def _emit(self, delta: TextDelta | ReasoningDelta) -> None:
        if self._waits or self._work.verdict_is_out:
            self._waiting.append(delta)
            return
        if self._waiting:
            self._let_go()
        self._leave(delta)

    def _let_go(self) -> None:
        waiting, self._waiting = self._waiting, []
        for delta in waiting:
            self._leave(delta)

    def _leave(self, delta: TextDelta | ReasoningDelta) -> None:
        (self.said if isinstance(delta, TextDelta) else self.thought).append(delta.text)
        self._work.journal.emit(delta)
