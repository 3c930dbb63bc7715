"""Reason and act: ask the model, call the tools it wants, show it the results, until done.

After Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models" (2022),
with the model's native tool calls in the place of parsed text.
"""

from servers.agents.patterns.ports import Answer, Steps, Task
from servers.domain.chat import FinishReason, Message, Role, Text, ToolCall
from servers.domain.runs import StopReason, ToolReturned

_STOPS = {
    FinishReason.STOP: StopReason.ANSWER,
    FinishReason.TOOL_CALLS: StopReason.ANSWER,  # said so without calling anything
    FinishReason.LENGTH: StopReason.MAX_TOKENS,
    FinishReason.CONTENT_FILTER: StopReason.CONTENT_FILTER,
}


async def react(steps: Steps, task: Task) -> Answer:
    messages = list(task.messages)
    best = ""
    for _ in range(task.max_iterations):
        steps.begin_iteration()
        reply = await steps.ask(messages, task.tools, output_schema=task.output_schema)
        best = reply.message.text or best
        if not reply.message.tool_calls:
            return Answer(reply.message.text, _STOPS[reply.finish.reason])
        results = await steps.act(reply)
        messages.append(reply.message)
        messages.extend(map(observation, reply.message.tool_calls, results))
    # What was said beside tool calls is no answer of a form that is asked for.
    return Answer("" if task.output_schema else best, StopReason.MAX_ITERATIONS)


def observation(call: ToolCall, result: ToolReturned) -> Message:
    """A tool's result as the model reads it."""
    return Message(Role.TOOL, (Text(result.content),), tool_call_id=call.id)
