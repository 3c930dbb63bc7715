"""What a reasoning pattern may do, and what it gives back."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from servers.domain.chat import Json, Message, Role, ToolSpec, says
from servers.domain.run_events import BranchKind, ModelReplied, ToolReturned
from servers.domain.runs import StopReason


class Suspended(Exception):
    """The run has to wait for something from outside. Patterns let it pass: when the run goes
    on, the pattern is started again and finds everything done so far on record."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a pipeline."""

    name: str
    prompt: str = ""  # what the model is told in it; empty: the stage's own words


@dataclass(frozen=True, slots=True)
class Member:
    """An agent to whom a conversation can be handed."""

    name: str
    description: str  # for those who may hand it over
    system: str  # its system prompt
    tools: tuple[ToolSpec, ...] = ()
    max_iterations: int = 10


@dataclass(frozen=True, slots=True)
class Shape:
    """What an agent says of its pattern."""

    stages: tuple[Stage, ...] = ()
    max_parallel: int = 4
    max_replans: int = 0
    max_handoffs: int = 3
    members: tuple[Member, ...] = ()  # the first one is the agent itself


@dataclass(frozen=True, slots=True)
class Task:
    """What there is to do: the conversation to answer, and the means. The last message is the
    question."""

    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    max_iterations: int = 10
    output_schema: Json | None = None  # what the answer is to fit
    shape: Shape = Shape()  # frozen

    @property
    def question(self) -> str:
        return self.messages[-1].text

    def asking(self, text: str) -> list[Message]:
        """The conversation with `text` in the place of the question."""
        return [*self.messages[:-1], says(Role.USER, text)]


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    stop_reason: StopReason = StopReason.ANSWER
    answered_by: str = ""  # the agent that had the last word, where it is another one


class Steps(Protocol):
    """The steps of one run, or of a part of it. Each is recorded, and replayed when the run
    goes on after a crash or a wait; a pattern must therefore take the same steps when it gets
    the same results. Steps of different branches may be taken at the same time; within one
    scope one follows the other."""

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
        """All tool calls of a reply, in parallel; the results in the order of the calls.

        Raises Suspended where one of them needs something from outside; the others have
        ended by then.
        """
        ...

    def begin_iteration(self) -> None:
        """Counts the rounds of the pattern, for the run's record."""
        ...

    def branch(
        self, key: str, kind: BranchKind, name: str, input: str = "", member: str = ""
    ) -> "AbstractAsyncContextManager[Steps]":
        """A part of the run with steps of its own. `key` is unique within this scope and the
        same on replay. An error that leaves the block is recorded as the branch's end; on
        replay a failed branch fails with the same error. With a `member` it works with that
        agent's models and tools."""
        ...


class Pattern(Protocol):
    async def __call__(self, steps: Steps, task: Task) -> Answer: ...
