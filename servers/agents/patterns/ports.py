"""What a reasoning pattern may do, and what it gives back."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from servers.domain.chat import Json, Message, ToolSpec
from servers.domain.runs import ModelReplied, StopReason, ToolReturned


@dataclass(frozen=True, slots=True)
class Task:
    """What there is to do: the conversation to answer, and the means."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    max_iterations: int = 10
    output_schema: Json | None = None  # what the answer is to fit


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    stop_reason: StopReason = StopReason.ANSWER


class Steps(Protocol):
    """The steps of one run. Each is recorded, and replayed when the run goes on after a
    crash; a pattern must therefore take the same steps when it gets the same results."""

    async def ask(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        role: str = "default",
        output_schema: Json | None = None,
    ) -> ModelReplied:
        """One model call. With an `output_schema` its text fits it, unless it calls tools."""
        ...

    async def act(self, reply: ModelReplied) -> list[ToolReturned]:
        """All tool calls of a reply, in parallel; the results in the order of the calls."""
        ...

    def begin_iteration(self) -> None:
        """Counts the rounds of the pattern, for the run's record."""
        ...


class Pattern(Protocol):
    async def __call__(self, steps: Steps, task: Task) -> Answer: ...
