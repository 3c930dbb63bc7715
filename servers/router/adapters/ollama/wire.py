"""Ollama's chat dialect: sampling in `options`, arguments as objects. Pure."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from servers.domain.chat import (
    Completion,
    Finish,
    FinishReason,
    Image,
    Message,
    ReasoningPiece,
    Role,
    Sampling,
    Text,
    TextPiece,
    ToolCall,
    Usage,
)
from servers.kernel.errors import InvalidInput
from servers.router.adapters.openai.request import tool
from servers.router.adapters.openai.wire import estimated
from servers.router.ports import Ask

_TOP = frozenset({"format", "keep_alive", "think"})  # everything else of `extra` is an option


def request(ask: Ask, stream: bool) -> bytes:
    extra = dict(ask.sampling.extra)
    body: dict[str, Any] = {key: extra.pop(key) for key in _TOP & extra.keys()}
    if (wanted := extra.pop("response_format", None)) is not None:
        body["format"] = _format(wanted)
    if ask.output_schema is not None:
        body["format"] = ask.output_schema
        if ask.tools:  # the schema would keep the model from calling any
            del body["format"]
    if (penalty := extra.pop("repetition_penalty", None)) is not None:
        extra.setdefault("repeat_penalty", penalty)
    body |= {
        "model": ask.model,
        "messages": _messages(ask.messages),
        "stream": stream,
        "options": {**extra, **_options(ask.sampling)},
    }
    if ask.tools:
        body["tools"] = [tool(each) for each in ask.tools]
    return orjson.dumps(body)


def completion(answer: Mapping[str, Any], ask: Ask) -> Completion:
    """A whole answer. Raises KeyError, TypeError or ValueError for no such thing."""
    if not answer["done"]:
        raise ValueError("not done")
    gathered = Streamed(ask)
    pieces = gathered.take(answer)[1]
    said = "".join(piece.text for piece in pieces if isinstance(piece, TextPiece))
    thought = "".join(piece.text for piece in pieces if isinstance(piece, ReasoningPiece))
    finish = gathered.finish()
    parts = (Text(said),) if said else ()
    return Completion(Message(Role.ASSISTANT, parts, finish.tool_calls, reasoning=thought), finish)


@dataclass(slots=True)
class Streamed:
    """A streamed answer as its lines arrive."""

    ask: Ask
    last: Mapping[str, Any] = field(default_factory=dict)  # the line that says done
    model: str = ""
    length: int = 0
    calls: list[ToolCall] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        return bool(self.last)

    whole = ended

    def take(self, line: Mapping[str, Any]) -> tuple[bool, list[TextPiece | ReasoningPiece]]:
        """Returns whether the model got any further, and what is to be shown of it."""
        if line.get("done"):
            self.last = line
        said = (line.get("message") or {}) if self.last else line["message"]
        self.model = self.model or line.get("model") or ""
        pieces: list[TextPiece | ReasoningPiece] = []
        if thought := said.get("thinking"):
            pieces.append(ReasoningPiece(thought))
        if text := said.get("content"):
            pieces.append(TextPiece(text))
        wanted = said.get("tool_calls") or ()
        for each in wanted:
            self.calls.append(self._call(each))
        self.length += sum(len(piece.text) for piece in pieces)
        return bool(pieces or wanted), pieces

    def finish(self) -> Finish:
        reason = self.last.get("done_reason")
        if self.calls:
            kind = FinishReason.TOOL_CALLS
        else:
            kind = FinishReason.LENGTH if reason == "length" else FinishReason.STOP
        return Finish(kind, tuple(self.calls), self._usage(), model=self.model)

    def _usage(self) -> Usage:
        counted = self.last
        if counted.get("eval_count") is None:
            return estimated(self.ask, self.length)
        # A prompt that was wholly in Ollama's cache is not counted at all.
        return Usage(int(counted.get("prompt_eval_count") or 0), int(counted["eval_count"]))

    def _call(self, wanted: Mapping[str, Any]) -> ToolCall:
        function = wanted["function"]
        # Older servers give no id; one that is new in the whole conversation is made up.
        number = sum(len(m.tool_calls) for m in self.ask.messages) + len(self.calls)
        arguments = function.get("arguments") or {}
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        return ToolCall(wanted.get("id") or f"call_{number}", function["name"], text)


def _messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    names = {call.id: call.name for said in messages for call in said.tool_calls}
    return [_message(each, names) for each in messages]


def _message(said: Message, names: Mapping[str, str]) -> dict[str, Any]:
    wire: dict[str, Any] = {"role": said.role.value, "content": said.text}
    if images := [_image(part) for part in said.parts if isinstance(part, Image)]:
        wire["images"] = images
    if said.role is Role.TOOL:
        wire["tool_name"] = names.get(said.tool_call_id, "")
    if said.tool_calls:
        wire["tool_calls"] = [
            {"id": call.id, "function": {"name": call.name, "arguments": _object(call.arguments)}}
            for call in said.tool_calls
        ]
        if said.reasoning:
            wire["thinking"] = said.reasoning
    return wire


def _image(image: Image) -> str:
    if not image.data:
        raise InvalidInput(
            "Ollama takes pictures by value only: send the picture's data, not its address",
            field="messages.parts.image.url",
        )
    return b64encode(image.data).decode()


def _object(arguments: str) -> Any:
    """What the model once wrote; where that was broken it is shown as it was."""
    try:
        found = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {"broken_json": arguments}
    return found if isinstance(found, dict) else {"value": found}


def _options(wanted: Sampling) -> dict[str, Any]:
    return {
        name: value
        for name, value in (
            ("temperature", wanted.temperature),
            ("top_p", wanted.top_p),
            ("num_predict", wanted.max_tokens),
            ("stop", list(wanted.stop) or None),
            ("seed", wanted.seed),
        )
        if value is not None
    }


def _format(wanted: Any) -> Any:
    """OpenAI's response_format in Ollama's words."""
    if not isinstance(wanted, Mapping):
        return wanted
    schema = wanted.get("json_schema")
    if wanted.get("type") == "json_schema" and isinstance(schema, Mapping):
        return schema.get("schema")
    return "json" if wanted.get("type") == "json_object" else ""
