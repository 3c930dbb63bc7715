"""The OpenAI chat dialect, answers in. Pure: tested without a server."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import orjson

from servers.domain.chat import (
    Completion,
    Finish,
    FinishReason,
    Message,
    ReasoningPiece,
    Role,
    Text,
    TextPiece,
    ToolCall,
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


def completion(answer: Mapping[str, Any], ask: Ask) -> Completion:
    """A whole answer. Raises KeyError, IndexError, TypeError or ValueError for no such thing."""
    choice = answer["choices"][0]
    said = choice["message"]
    gathered = Gathered()
    gathered.take(said)
    refusal = said.get("refusal") or ""
    text, reasoning = said.get("content") or refusal, _reasoning(said)
    calls = gathered.calls(ask)
    reason = "content_filter" if refusal else choice.get("finish_reason")
    return Completion(
        Message(Role.ASSISTANT, (Text(text),) if text else (), calls, reasoning=reasoning),
        Finish(
            _finish(reason, calls),
            calls,
            usage(_counted(answer), ask, len(text) + len(reasoning)),
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
        if isinstance(fragments, Mapping):  # TGI before 3.1 sends one, not a list
            fragments = [fragments]
        for position, fragment in enumerate(fragments):
            index = fragment.get("index")
            known = self._calls.setdefault(position if index is None else index, ["", "", ""])
            function = fragment.get("function") or {}
            known[0] = known[0] or fragment.get("id") or ""
            known[1] += function.get("name") or ""
            known[2] += _as_text(function.get("arguments"))
        return bool(fragments)

    def calls(self, ask: Ask) -> tuple[ToolCall, ...]:
        """All of them. Some servers give no id, or every time the same ("0"): then it is one
        that is new in the whole conversation."""
        if not self._calls:
            return ()
        taken = {call.id for said in ask.messages for call in said.tool_calls} | {""}
        found = []
        for id, name, arguments in (self._calls[index] for index in sorted(self._calls)):
            if id in taken:
                id = next(new for number in count() if (new := f"call_{number}") not in taken)
            taken.add(id)
            found.append(ToolCall(id, name, arguments.strip() or "{}"))
        return tuple(found)


@dataclass(slots=True)
class Streamed:
    """A streamed answer as its events arrive."""

    ask: Ask
    reason: str | None = None
    model: str = ""
    counted: Mapping[str, Any] | None = None
    length: int = 0  # characters so far
    tools: Gathered = field(default_factory=Gathered)
    refused: bool = False
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
        self.counted = _counted(event) or self.counted
        choices = event.get("choices")
        if not choices:  # the last event has usage alone
            return False, []
        choice = choices[0]
        self.reason = choice.get("finish_reason") or self.reason
        delta = choice.get("delta") or {}
        pieces: list[TextPiece | ReasoningPiece] = []
        if thought := _reasoning(delta):
            pieces.append(ReasoningPiece(thought))
        if text := delta.get("content") or delta.get("refusal"):
            pieces.append(TextPiece(text))
            self.refused = self.refused or bool(delta.get("refusal"))
        self.length += sum(len(piece.text) for piece in pieces)
        return self.tools.take(delta) or bool(pieces), pieces

    def finish(self) -> Finish:
        calls = self.tools.calls(self.ask)
        counted = usage(self.counted, self.ask, self.length)
        reason = "content_filter" if self.refused else self.reason
        return Finish(_finish(reason, calls), calls, counted, model=self.model)


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


def estimated(ask: Ask, length: int) -> Usage:
    return usage(None, ask, length)


def _counted(event: Mapping[str, Any]) -> Mapping[str, Any]:
    """What an event counts. Older llama.cpp has some of it, or all, among its timings only."""
    counted: Mapping[str, Any] = event.get("usage") or {}
    timings = event.get("timings")
    if not timings or counted.get("prompt_tokens_details"):
        return counted
    cached = timings.get("cache_n") or 0
    return {
        "prompt_tokens": timings["prompt_n"] + cached,
        "completion_tokens": timings["predicted_n"],
        **counted,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


def _reasoning(said: Mapping[str, Any]) -> str:
    thought = said.get("reasoning_content") or said.get("reasoning")
    return thought if isinstance(thought, str) else ""


def _finish(reason: str | None, calls: Sequence[ToolCall]) -> FinishReason:
    # Some servers say "stop" when they want a tool called; a call that was cut off is none.
    if calls and reason not in ("length", "content_filter"):
        return FinishReason.TOOL_CALLS
    return _FINISHES.get(reason or "", FinishReason.STOP)


def _as_text(arguments: Any) -> str:
    """Arguments are JSON text; some servers send the object itself."""
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return orjson.dumps(arguments).decode()


def _tokens(characters: int) -> int:
    return -(-characters // _CHARACTERS_PER_TOKEN)


def _length(messages: Sequence[Message]) -> int:
    return sum(len(each.text) for each in messages)
