"""The OpenAI chat dialect, requests out. Pure: tested without a server."""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from servers.domain.chat import Image, Json, Message, Part, Role, Sampling, Text, ToolSpec
from servers.kernel.errors import InvalidInput
from servers.router.adapters.openai.answer_schema import response_format
from servers.router.ports import Ask

_ADDRESSES = ("http://", "https://", "data:image/")  # a server might read its own files: not file:


@dataclass(frozen=True, slots=True)
class Words:
    """Where a server's words differ from OpenAI's first ones."""

    limit: str = "max_tokens"  # newer: max_completion_tokens
    thoughts: str = "reasoning_content"  # what earlier thoughts go back as; empty: they don't
    schema: Callable[[Json], dict[str, Any]] = response_format  # asks for an output_schema
    schema_beside_tools: bool = False  # whether a schema leaves the model free to call tools
    # What else in `extra` shapes an answer. It gives way to an output_schema.
    shapes: frozenset[str] = frozenset({"response_format"})


PLAIN = Words()


def body(ask: Ask, stream: bool, words: Words = PLAIN) -> dict[str, Any]:
    """What is set for this call goes before `extra`, which goes out as it is."""
    schema, extra = ask.output_schema, dict(ask.sampling.extra)
    if schema is not None:
        extra = {key: value for key, value in extra.items() if key not in words.shapes}
    wire: dict[str, Any] = {
        **extra,
        **_sampling(ask.sampling, words),
        "model": ask.model,
        "messages": [message(each, words) for each in ask.messages],
        "stream": stream,
    }
    if ask.tools:  # an empty list is an error to some servers
        wire["tools"] = [tool(each) for each in ask.tools]
    if schema is not None and (words.schema_beside_tools or not ask.tools):
        wire |= words.schema(schema)
    wire.pop("stream_options", None)  # an error to some servers where nothing is streamed
    if stream:
        wire["stream_options"] = {**_object(extra.get("stream_options")), "include_usage": True}
    return wire


def request(ask: Ask, stream: bool, words: Words = PLAIN) -> bytes:
    return orjson.dumps(body(ask, stream, words))


def message(said: Message, words: Words = PLAIN) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": said.role.value, "content": _content(said)}
    if said.role is Role.TOOL:
        wire["tool_call_id"] = said.tool_call_id
    if said.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _sound(call.arguments)},
            }
            for call in said.tool_calls
        ]
        if said.reasoning and words.thoughts:  # a model that thinks between calls wants them back
            wire[words.thoughts] = said.reasoning
    return wire


def tool(spec: ToolSpec) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": spec.name,
            "description": spec.description,
            "parameters": spec.parameters,
        },
    }


def data_url(image: Image) -> str:
    return f"data:{image.media_type or 'image/png'};base64,{b64encode(image.data).decode()}"


def _content(said: Message) -> str | list[dict[str, Any]] | None:
    if any(isinstance(part, Image) for part in said.parts):
        return [_part(part) for part in said.parts]
    return said.text or (None if said.tool_calls else "")


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if part.url and not part.url.lower().startswith(_ADDRESSES):
        raise InvalidInput(
            f"a picture's address begins with one of {', '.join(_ADDRESSES)}: {part.url[:60]!r}",
            field="messages.parts.image.url",
        )
    return {"type": "image_url", "image_url": {"url": part.url or data_url(part)}}


def _sampling(wanted: Sampling, words: Words) -> dict[str, Any]:
    limit = None if "max_completion_tokens" in wanted.extra else wanted.max_tokens
    return {
        name: value
        for name, value in (
            ("temperature", wanted.temperature),
            ("top_p", wanted.top_p),
            (words.limit, limit),
            ("stop", list(wanted.stop) or None),
            ("seed", wanted.seed),
        )
        if value is not None
    }


def _sound(arguments: str) -> str:
    """What the model once wrote, as JSON: vLLM and llama.cpp read it and refuse what is broken."""
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return orjson.dumps({"broken_json": arguments}).decode()
    return arguments


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
