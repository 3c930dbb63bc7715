"""From what is asked to a job of the worker. Pure."""

from collections.abc import Mapping
from typing import Any

import orjson

from servers.domain.chat import Image, Json, Message, Role, Sampling
from servers.kernel.errors import InvalidInput, Violation
from servers.kernel.explain import nearest
from servers.router.adapters.openai.request import tool
from servers.router.ports import Ask

MOST_TOKENS = 2048  # of an answer, where nobody says how long it may be
_SEARCH = {
    "top_k": int,
    "repetition_penalty": float,
    "no_repeat_ngram_size": int,
    "min_tokens": int,
}
_EXTRA = (*_SEARCH, "response_format", "chat_template_kwargs")
_SEEDS = 0x7FFFFFFF  # the package takes no larger ones
_ANY_OBJECT = {"type": "object"}
# Left free to write blanks between the parts of JSON, small models find no end of them.
_GUIDANCE = {"whitespace_pattern": "[ ]?", "coerce_one_of": True}


def chat(ask: Ask) -> dict[str, Any]:
    """Raises InvalidInput for what the package can't do."""
    for name in ask.sampling.extra:
        if name not in _EXTRA:
            raise _wrong(name, f"is no parameter of this provider{nearest(name, sorted(_EXTRA))}")
    schema = None if ask.tools else _schema(ask)
    return {
        **count(ask),
        "do": "chat",
        "limit": ask.sampling.max_tokens or MOST_TOKENS,
        "search": _search(ask.sampling),
        # Held to a schema, a model could call no tool: then the router checks what it says.
        "schema": orjson.dumps(schema).decode() if schema is not None else "",
    }


def count(ask: Ask) -> dict[str, Any]:
    settings = ask.sampling.extra.get("chat_template_kwargs", {})
    if not isinstance(settings, Mapping):
        raise _wrong("chat_template_kwargs", "is no mapping of names to values")
    return {
        "do": "count",
        "messages": [_message(each) for each in ask.messages],
        "tools": [tool(each) for each in ask.tools],
        "template": settings,
    }


def _message(said: Message) -> dict[str, Any]:
    """As templates expect it: OpenAI's form, with the arguments of calls as objects."""
    if any(isinstance(part, Image) for part in said.parts):
        raise _wrong("messages", "the model sees no pictures")
    wire: dict[str, Any] = {"role": said.role.value, "content": said.text}
    if said.role is Role.TOOL:
        wire["tool_call_id"] = said.tool_call_id
    if said.reasoning:
        wire["reasoning_content"] = said.reasoning
    if said.tool_calls:
        wire["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _object(call.arguments)},
            }
            for call in said.tool_calls
        ]
    return wire


def _object(arguments: str) -> Any:
    """What the model once wrote; where that was broken it is shown as it was."""
    try:
        return orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        return {"broken_json": arguments}


def _search(wanted: Sampling) -> dict[str, Any]:
    """In the package's words. What is not set stays as genai_config.json says."""
    search: dict[str, Any] = {}
    for name, kind in _SEARCH.items():
        if (value := wanted.extra.get(name)) is not None:
            search[name] = _number(name, value, kind)
    if wanted.temperature is not None:
        search["do_sample"] = wanted.temperature > 0
        if wanted.temperature > 0:
            search["temperature"] = float(wanted.temperature)
    elif wanted.top_p is not None or "top_k" in search:
        search["do_sample"] = True
    if wanted.top_p is not None:
        search["top_p"] = float(wanted.top_p)
    elif search.get("top_k") == 0:
        search["top_p"] = 1.0  # the package wants one of them
    if wanted.seed is not None:
        search["random_seed"] = wanted.seed & _SEEDS
    return search


def _number(name: str, value: Any, kind: type[int] | type[float]) -> int | float:
    # Numbers of requests come as floats: protobuf's JSON knows no others.
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    if not whole or (kind is int and value != int(value)):
        raise _wrong(name, "is no number that makes sense here")
    return kind(value)


def _schema(ask: Ask) -> Any:
    """The JSON Schema of the answer; None where it may be anything."""
    if ask.output_schema is not None:
        # What the package does not know of it lets more through, which the router finds.
        return _guided(ask.output_schema, lenient=True)
    wanted = ask.sampling.extra.get("response_format")
    if wanted is None or (isinstance(wanted, Mapping) and wanted.get("type") == "text"):
        return None
    if isinstance(wanted, Mapping) and wanted.get("type") == "json_object":
        return _guided(_ANY_OBJECT)
    found = wanted.get("json_schema") if isinstance(wanted, Mapping) else None
    if isinstance(found, Mapping) and isinstance(found.get("schema"), Mapping):
        return _guided(found["schema"])
    raise _wrong("response_format", "is none of text, json_object and json_schema with a schema")


def _guided(schema: Json, **more: bool) -> Json:
    """With how the package's grammar is to be made of it."""
    return {**schema, "x-guidance": {**_GUIDANCE, **more, **schema.get("x-guidance", {})}}


def _wrong(name: str, fault: str) -> InvalidInput:
    return InvalidInput(
        f"{name}: {fault}",
        reason="PROVIDER_REFUSED",
        violations=(Violation(name, fault),),
    )
