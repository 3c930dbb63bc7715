"""What the steps of one run share, whichever part of it takes them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from servers.agents.runs.record.journal import Journal
from servers.agents.runs.record.replay import Replay
from servers.agents.runs.record.tally import Tally
from servers.domain.caller import Account, Caller
from servers.domain.chat import ModelUsage, Usage
from servers.domain.run_events import Guarded
from servers.domain.runs import Ask, Block, Run
from servers.domain.sources import Source


@dataclass(frozen=True, slots=True)
class Errand:
    """What a tool call wants of another agent."""

    call_id: str
    tool: str
    agent: str
    query: str
    timeout: float | None = None  # seconds; the parent's own time bounds it, too
    known: str = ""  # the run that it has become, where that is on record


class SubRuns(Protocol):
    """Runs of other agents that do a run's errands."""

    async def done(
        self, caller: Caller, parent: Run, errand: Errand, begun: Callable[[Run], None]
    ) -> Run:
        """The run of the errand, once it has ended or waits. `begun` hears of it before.

        The same errand of the same parent is the same run, however often it is asked for.
        Cancelled with its parent. Raises what keeps it from starting.
        """
        ...

    async def used(self, parent: Run) -> Usage:
        """What the runs below one have used so far, those of their errands too."""
        ...


@dataclass(slots=True)
class Work:
    caller: Caller
    account: Account
    run: Run
    journal: Journal
    replay: Replay
    now: Callable[[], float]
    sub_runs: SubRuns
    tally: Tally = field(default_factory=Tally)
    iterations: int = 0
    asks: dict[str, Ask] = field(default_factory=dict)  # what it waits for, by call id
    saying: list[str] = field(default_factory=list)  # what the newest model call has said so far
    block: Block | None = None  # the guardrail that ends the run
    warnings: set[Guarded] = field(default_factory=set)  # that are given once
    verdict: asyncio.Task[Block | None] | None = None  # of judges, on what the run was asked
    unbilled: list[ModelUsage] = field(default_factory=list)  # what judges used
    sources: list[Source] = field(default_factory=list)  # looked up since it went to work
    delegating: bool = False  # whether it has begun an errand since it went to work
    _model_calls: int = 0

    @property
    def said(self) -> str:
        return "".join(self.saying)

    def next_model_call(self) -> int:
        """A number that no call on record has."""
        self._model_calls = max(self._model_calls, self.replay.model_calls) + 1
        return self._model_calls

    def next_source(self) -> int:
        """A number that no source of the run has."""
        return max((each.number for each in self.all_sources), default=0) + 1

    @property
    def all_sources(self) -> list[Source]:
        """What was looked up, now and before it went on."""
        return [*self.replay.sources, *self.sources]

    @property
    def delegated(self) -> bool:
        """Whether other agents have been asked, now or before it went on."""
        return self.delegating or self.replay.delegated

    @property
    def verdict_is_out(self) -> bool:
        """Whether judges are still at what the run was asked, or have blocked it."""
        verdict = self.verdict
        return verdict is not None and (not verdict.done() or self.block is not None)

    def take_unbilled(self) -> tuple[ModelUsage, ...]:
        taken, self.unbilled = self.unbilled, []
        return tuple(taken)

    @property
    def answered(self) -> bool:
        """Whether something of what it waits for has come meanwhile."""
        return any(self.replay.decision(call_id) for call_id in self.asks)
