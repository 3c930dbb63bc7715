"""The one tool loop: ask the model, make the calls it wants, show it the results, until it
answers. Patterns differ in what they put into it and how often."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from servers.agents.patterns.ports import Answer, Steps
from servers.domain.chat import FinishReason, Json, Message, Role, Text, ToolCall, ToolSpec
from servers.domain.run_events import ModelReplied, ToolReturned
from servers.domain.runs import StopReason

STOPS = {
    FinishReason.STOP: StopReason.ANSWER,
    FinishReason.TOOL_CALLS: StopReason.ANSWER,  # said so without calling anything
    FinishReason.LENGTH: StopReason.MAX_TOKENS,
    FinishReason.CONTENT_FILTER: StopReason.CONTENT_FILTER,
}

# Does the tool calls of a reply. None: the talk goes on elsewhere, and this loop ends.
Acting: TypeAlias = Callable[[ModelReplied], Awaitable[Sequence[ToolReturned] | None]]


@dataclass(slots=True)
class Talk:
    """A conversation with the models of a role. The loop adds to `messages`."""

    messages: list[Message]
    tools: tuple[ToolSpec, ...] = ()
    max_iterations: int = 10
    role: str = "default"
    output_schema: Json | None = None


async def tool_loop(steps: Steps, talk: Talk, act: Acting | None = None) -> Answer:
    """The answer, or the best there was when the rounds are used up."""
    best = ""
    for _ in range(talk.max_iterations):
        steps.begin_iteration()
        reply = await steps.ask(talk.messages, talk.tools, talk.role, talk.output_schema)
        best = reply.message.text or best
        if not reply.message.tool_calls:
            return Answer(reply.message.text, STOPS[reply.finish.reason])
        results = await (act or steps.act)(reply)
        if results is None:
            return Answer(best)
        talk.messages.append(reply.message)
        talk.messages.extend(map(observation, reply.message.tool_calls, results))
    # What was said beside tool calls is no answer of a form that is asked for.
    return Answer("" if talk.output_schema else best, StopReason.MAX_ITERATIONS)


async def last_word(steps: Steps, talk: Talk) -> Answer:
    """One model call that has to do without tools."""
    steps.begin_iteration()
    reply = await steps.ask(talk.messages, (), talk.role, talk.output_schema)
    return Answer(reply.message.text, STOPS[reply.finish.reason])


def observation(call: ToolCall, result: ToolReturned) -> Message:
    """A tool's result as the model reads it."""
    return observed(call, result.content)


def observed(call: ToolCall, text: str) -> Message:
    return Message(Role.TOOL, (Text(text),), tool_call_id=call.id)
