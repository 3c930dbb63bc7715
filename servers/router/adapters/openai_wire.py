"""The OpenAI chat dialect: requests out, answers in. Pure: tested without a server."""

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
    Part,
    ReasoningPiece,
    Role,
    Sampling,
    Text,
    TextPiece,
    ToolCall,
    ToolSpec,
    Usage,
)
from servers.router.ports import Ask

_FINISHES = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "function_call": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
DONE: Mapping[str, Any] = {}  # stands for the end marker; known by identity
_CHARACTERS_PER_TOKEN = 4  # only where a provider counts nothing; marked as estimated


def request(ask: Ask, stream: bool) -> bytes:
    """What is set for this call goes before `extra`, which goes out as it is."""
    body: dict[str, Any] = {
        **ask.sampling.extra,
        **_sampling(ask.sampling),
        "model": ask.model,
        "messages": [message(each) for each in ask.messages],
        "stream": stream,
    }
    if ask.tools:  # an empty list is an error to some servers
        body["tools"] = [tool(each) for each in ask.tools]
    if stream:
        body["stream_options"] = {"include_usage": True}
    return orjson.dumps(body)


def message(said: Message) -> dict[str, Any]:
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
        if said.reasoning:  # a model that thinks between calls wants its thoughts back
            wire["reasoning_content"] = said.reasoning
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


def completion(answer: Mapping[str, Any], ask: Ask) -> Completion:
    """A whole answer. Raises KeyError, IndexError, TypeError or ValueError for no such thing."""
    choice = answer["choices"][0]
    said = choice["message"]
    gathered = Gathered()
    gathered.take(said)
    text, reasoning = said.get("content") or "", _reasoning(said)
    calls = gathered.calls()
    return Completion(
        Message(Role.ASSISTANT, (Text(text),) if text else (), calls, reasoning=reasoning),
        Finish(
            _finish(choice.get("finish_reason"), calls),
            calls,
            usage(answer.get("usage"), ask, len(text) + len(reasoning)),
            model=str(answer.get("model") or ask.model),
        ),
    )


@dataclass(slots=True)
class Gathered:
    """Tool calls as their fragments arrive: the first of an index brings id and name."""

    _calls: dict[int, list[str]] = field(default_factory=dict)  # index -> id, name, arguments

    def take(self, delta: Mapping[str, Any]) -> bool:
        """Returns whether there was anything to take."""
        fragments = delta.get("tool_calls") or ()
        for position, fragment in enumerate(fragments):
            index = fragment.get("index")
            known = self._calls.setdefault(position if index is None else index, ["", "", ""])
            function = fragment.get("function") or {}
            known[0] = known[0] or fragment.get("id") or ""
            known[1] += function.get("name") or ""
            known[2] += _as_text(function.get("arguments"))
        return bool(fragments)

    def calls(self) -> tuple[ToolCall, ...]:
        return tuple(
            ToolCall(id or f"call_{index}", name, arguments.strip() or "{}")
            for index, (id, name, arguments) in sorted(self._calls.items())
        )


@dataclass(slots=True)
class Streamed:
    """A streamed answer as its events arrive."""

    ask: Ask
    reason: str | None = None
    model: str = ""
    counted: Mapping[str, Any] | None = None
    length: int = 0  # characters so far
    tools: Gathered = field(default_factory=Gathered)
    ended: bool = False

    @property
    def whole(self) -> bool:
        """Some servers never say [DONE]; a reason to stop says as much."""
        return self.ended or self.reason is not None

    def take(self, event: Mapping[str, Any]) -> tuple[bool, list[TextPiece | ReasoningPiece]]:
        """Returns whether the model got any further, and what is to be shown of it."""
        if event is DONE:
            self.ended = True
            return False, []
        self.model = self.model or event.get("model") or ""
        self.counted = event.get("usage") or self.counted
        choices = event.get("choices")
        if not choices:  # the last event has usage alone
            return False, []
        choice = choices[0]
        self.reason = choice.get("finish_reason") or self.reason
        delta = choice.get("delta") or {}
        pieces: list[TextPiece | ReasoningPiece] = []
        if thought := _reasoning(delta):
            pieces.append(ReasoningPiece(thought))
        if text := delta.get("content"):
            pieces.append(TextPiece(text))
        self.length += sum(len(piece.text) for piece in pieces)
        return self.tools.take(delta) or bool(pieces), pieces

    def finish(self) -> Finish:
        calls = self.tools.calls()
        counted = usage(self.counted, self.ask, self.length)
        return Finish(_finish(self.reason, calls), calls, counted, model=self.model)


def usage(counted: Mapping[str, Any] | None, ask: Ask, length: int) -> Usage:
    """The provider's count, or an estimate that says it is one. `length` is in characters."""
    if not counted:
        return Usage(_tokens(_length(ask.messages)), _tokens(length), estimated=True)
    details = counted.get("prompt_tokens_details") or {}
    cached = details.get("cached_tokens") or counted.get("prompt_cache_hit_tokens") or 0
    return Usage(
        int(counted.get("prompt_tokens") or 0),
        int(counted.get("completion_tokens") or 0),
        int(cached),
    )


def data_url(image: Image) -> str:
    return f"data:{image.media_type or 'image/png'};base64,{b64encode(image.data).decode()}"


def estimated(ask: Ask, length: int) -> Usage:
    return usage(None, ask, length)


def _content(said: Message) -> str | list[dict[str, Any]] | None:
    if any(isinstance(part, Image) for part in said.parts):
        return [_part(part) for part in said.parts]
    return said.text or (None if said.tool_calls else "")


def _part(part: Part) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": part.url or data_url(part)}}


def _sampling(wanted: Sampling) -> dict[str, Any]:
    return {
        name: value
        for name, value in (
            ("temperature", wanted.temperature),
            ("top_p", wanted.top_p),
            ("max_tokens", wanted.max_tokens),
            ("stop", list(wanted.stop) or None),
            ("seed", wanted.seed),
        )
        if value is not None
    }


def _reasoning(said: Mapping[str, Any]) -> str:
    thought = said.get("reasoning_content") or said.get("reasoning")
    return thought if isinstance(thought, str) else ""


def _finish(reason: str | None, calls: Sequence[ToolCall]) -> FinishReason:
    if calls and reason != "length":  # some servers say "stop" when they want a tool called
        return FinishReason.TOOL_CALLS
    return _FINISHES.get(reason or "", FinishReason.STOP)


def _as_text(arguments: Any) -> str:
    """Arguments are JSON text; some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return orjson.dumps(arguments).decode()


def _sound(arguments: str) -> str:
    """What the model once wrote, as JSON: vLLM and llama.cpp read it and refuse what is broken."""
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return orjson.dumps({"broken_json": arguments}).decode()
    return arguments


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)


def _length(messages: Sequence[Message]) -> int:
    return sum(len(each.text) for each in messages)
