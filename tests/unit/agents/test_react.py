"""The react pattern."""

from dataclasses import replace

from servers.agents.patterns.ports import Task
from servers.agents.patterns.react import react
from servers.domain.chat import Finish, FinishReason, Message, Role, Text, ToolCall, says
from servers.domain.run_events import ModelReplied, ToolReturned
from servers.domain.runs import StopReason


class Scripted:
    """Steps whose model says its lines: a text, or a tuple of tool names to call."""

    def __init__(self, *lines, finish=FinishReason.STOP):
        self.lines, self.finish = list(lines), finish
        self.shown = []
        self.schemas = []
        self.rounds = 0

    def begin_iteration(self):
        self.rounds += 1

    async def ask(self, messages, tools=(), role="default", output_schema=None):
        self.shown.append(list(messages))
        self.schemas.append(output_schema)
        line = self.lines.pop(0)
        number = len(self.shown)
        if isinstance(line, str):
            return ModelReplied(number, says(Role.ASSISTANT, line), Finish(self.finish))
        calls = tuple(ToolCall(f"c{at}", name, "{}") for at, name in enumerate(line))
        message = Message(Role.ASSISTANT, (Text("let me see"),), calls)
        return ModelReplied(number, message, Finish(FinishReason.TOOL_CALLS, calls))

    async def act(self, reply):
        return [
            ToolReturned(f"{reply.model_call}.{at}", call.name, f"result of {call.name}")
            for at, call in enumerate(reply.message.tool_calls)
        ]


TASK = Task((says(Role.USER, "go"),), max_iterations=3)


async def test_an_answer_without_tool_calls_ends_the_run():
    answer = await react(Scripted("done"), TASK)
    assert (answer.text, answer.stop_reason) == ("done", StopReason.ANSWER)


async def test_the_model_sees_its_calls_and_one_result_for_each_in_order():
    steps = Scripted(("add", "now"), "done")
    await react(steps, TASK)
    _, assistant, *results = steps.shown[1]
    assert [call.name for call in assistant.tool_calls] == ["add", "now"]
    assert [(m.role, m.tool_call_id, m.text) for m in results] == [
        (Role.TOOL, "c0", "result of add"),
        (Role.TOOL, "c1", "result of now"),
    ]


async def test_a_model_that_calls_tools_for_ever_is_stopped_with_its_best_text():
    steps = Scripted(("add",), ("add",), ("add",))
    answer = await react(steps, TASK)
    assert (answer.text, answer.stop_reason) == ("let me see", StopReason.MAX_ITERATIONS)
    assert steps.rounds == 3


async def test_an_answer_that_was_cut_says_so():
    answer = await react(Scripted("once upon", finish=FinishReason.LENGTH), TASK)
    assert answer.stop_reason is StopReason.MAX_TOKENS


SCHEMA = {"type": "object"}


async def test_every_call_may_give_the_answer_so_that_every_call_has_its_schema():
    steps = Scripted(("add",), "{}")
    await react(steps, replace(TASK, output_schema=SCHEMA))
    assert steps.schemas == [SCHEMA, SCHEMA]


async def test_words_beside_tool_calls_are_no_answer_where_a_form_is_wanted():
    steps = Scripted(("add",), ("add",), ("add",))
    answer = await react(steps, replace(TASK, output_schema=SCHEMA))
    assert (answer.text, answer.stop_reason) == ("", StopReason.MAX_ITERATIONS)
