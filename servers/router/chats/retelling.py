"""Tools in words, for models that know no tool calls: what is told to them, what they answer.

A call is the JSON ``{"tool": name, "arguments": {...}}``, an answer ``{"answer": text}``.
Calls and results of the conversation so far become turns of the assistant and the user,
because the chat templates of such models know no others.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import orjson

from servers.domain.chat import Image, Json, Message, Role, Text, ToolCall, ToolSpec
from servers.router.chats.json_text import objects
from servers.router.chats.loosening import loosened, loosened_object

_RULES = """\
You can call tools. Answer with one JSON object and nothing else. To call a tool:
{"tool": "its name", "arguments": {"name": "value"}}
You are told its result, and can call another one. To answer the user:
{"answer": %s}

The tools are:
%s"""
_TEXT: Json = {"type": "string"}
_CUT_ANSWER = re.compile(r'\s*\{\s*"answer"\s*:\s*"(.*)', re.DOTALL)


def rules(tools: Sequence[ToolSpec], wanted: Json | None) -> str:
    """What a model must know to use the tools."""
    answer = '"your answer"' if wanted is None else f"an object that fits {_json(wanted)}"
    return _RULES % (answer, "\n".join(_described(tool) for tool in tools))


def schema(tools: Sequence[ToolSpec], wanted: Json | None) -> Json:
    """What every answer fits: a call of one of the tools, or an answer."""
    calls = [
        _closed(tool={"const": tool.name}, arguments=loosened_object(tool.parameters))
        for tool in tools
    ]
    answer = _closed(answer=_TEXT if wanted is None else loosened(wanted))
    # The type says nothing new, but OpenAI takes no schema without it.
    return {"type": "object", "anyOf": [*calls, answer]}


def retold(messages: Sequence[Message]) -> Iterator[Message]:
    """The conversation without tool calls and results: as text that any model can read."""
    names = {call.id: call.name for said in messages for call in said.tool_calls}
    results: list[str] = []
    for said in messages:
        if said.role is Role.TOOL:
            name = names.get(said.tool_call_id, "the tool")
            results.append(f"Result of {name} ({said.tool_call_id}):\n{said.text}")
            continue
        if results:
            yield Message(Role.USER, (Text("\n\n".join(results)),))
            results = []
        yield _with_calls_told(said) if said.tool_calls else said
    if results:
        yield Message(Role.USER, (Text("\n\n".join(results)),))


def told(call: ToolCall) -> str:
    """A call as the model would have written it."""
    return _json({"tool": call.name, "arguments": _arguments(call.arguments)})


def understood(text: str, id: str) -> ToolCall | str:
    """What a model meant: a call, or the text of an answer."""
    for _, value in objects(text):
        if isinstance(name := value.get("tool"), str):
            return ToolCall(id, name, _json(value.get("arguments") or {}))
        if "answer" in value:
            answer = value["answer"]
            return answer if isinstance(answer, str) else _json(answer)
    return _cut_answer(text)


def next_id(messages: Sequence[Message]) -> str:
    taken = {call.id for said in messages for call in said.tool_calls}
    return next(id for n in count(len(taken) + 1) if (id := f"call_{n}") not in taken)


def instructed(messages: Sequence[Message], instruction: str) -> tuple[Message, ...]:
    """With an instruction in the system message: templates want one, and want it first."""
    if messages and messages[0].role is Role.SYSTEM:
        first, *rest = messages
        parts = (*first.parts, Text("\n\n" + instruction))
        return Message(Role.SYSTEM, parts), *rest
    return Message(Role.SYSTEM, (Text(instruction),)), *messages


def _with_calls_told(said: Message) -> Message:
    calls = "\n".join(told(call) for call in said.tool_calls)
    text = f"{said.text}\n{calls}" if said.text else calls
    pictures = tuple(part for part in said.parts if isinstance(part, Image))
    return Message(said.role, (*pictures, Text(text)), reasoning=said.reasoning)


def _described(tool: ToolSpec) -> str:
    return f"- {tool.name}: {tool.description}\n  arguments: {_json(tool.parameters)}"


def _closed(**properties: Json) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _arguments(written: str) -> Any:
    try:
        return orjson.loads(written)
    except orjson.JSONDecodeError:
        return {"broken_json": written}


def _cut_answer(text: str) -> str:
    """The text of an answer that was cut off, as far as it came; else `text` as it is."""
    if not (found := _CUT_ANSWER.fullmatch(text)):
        return text
    for end in range(len(found[1]), max(-1, len(found[1]) - 12), -1):  # half an escape, at most two
        try:
            answer = orjson.loads(f'"{found[1][:end]}"')
        except orjson.JSONDecodeError:
            continue
        return str(answer)
    return text


def _json(value: Mapping[str, Any] | Any) -> str:
    return orjson.dumps(value).decode()
