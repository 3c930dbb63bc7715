"""From pieces of text to an answer: thoughts and tool calls apart, cut at stop words. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import orjson

from servers.domain.chat import (
    Finish,
    FinishReason,
    ReasoningPiece,
    TextPiece,
    ToolCall,
    Usage,
)
from servers.router.adapters.genai.markers import THOUGHT, Pair
from servers.router.adapters.streaming import MISSHAPEN
from servers.router.ports import Ask

Pieces: TypeAlias = list[TextPiece | ReasoningPiece]


@dataclass(slots=True)
class Answer:
    """An answer as its pieces arrive. What may be the beginning of a marker or of a stop word
    is held back until it is known."""

    ask: Ask
    calling: Pair | None = None  # how the model writes tool calls; None: it has no tools
    prompt: int = 0  # tokens
    tokens: int = 0
    cached: int = 0
    ended: bool = False
    _reason: FinishReason = FinishReason.STOP
    _held: str = ""
    _inside: Pair | None = None
    _trim: bool = False  # blanks behind a thought or a call belong to nothing
    _calls: list[ToolCall] = field(default_factory=list)

    def begin(self, prompt: int, thinking: bool) -> None:
        self.prompt = prompt
        self._inside = THOUGHT if thinking else None

    def take(self, text: str, tokens: int) -> Pieces:
        self.tokens = tokens
        self._held += text
        pieces: Pieces = []
        while not self.ended and (found := _first(self._held, self._watched())):
            at, word = found
            pieces += self._put(self._held[:at], word)
            self._held = self._held[at + len(word) :]
            self._pass(word)
        if not self.ended and not self._in_call():
            safe = len(self._held) - _kept(self._held, self._watched())
            pieces += self._put(self._held[:safe])
            self._held = self._held[safe:]
        return pieces

    def end(self, reason: str, tokens: int, cached: int = 0) -> Pieces:
        """The model said its last word: what was held back is no more than what it is."""
        self.tokens, self.cached = tokens, cached
        self.ended = True
        self._reason = FinishReason.LENGTH if reason == "length" else FinishReason.STOP
        return self._put(self._held)

    def finish(self) -> Finish:
        reason = FinishReason.TOOL_CALLS if self._calls else self._reason
        used = Usage(self.prompt, self.tokens, self.cached)
        return Finish(reason, tuple(self._calls), used, model=self.ask.model)

    def _watched(self) -> Sequence[str]:
        if self._inside is not None:
            return (self._inside.end,) if self._inside.end else ()
        begins = (pair.begin for pair in (THOUGHT, self.calling) if pair)
        return (*self.ask.sampling.stop, *begins)

    def _in_call(self) -> bool:
        return self._inside is not None and self._inside is not THOUGHT

    def _pass(self, word: str) -> None:
        """A marker or a stop word was reached; what stood before it has been dealt with."""
        if self._inside is not None:
            self._inside, self._trim = None, True
        elif word in self.ask.sampling.stop:
            self.ended = True
        else:
            self._inside = THOUGHT if word == THOUGHT.begin else self.calling

    def _put(self, text: str, end: str = "") -> Pieces:
        """Text to where it belongs; `end` is the word that ends it."""
        if self._inside is None:
            return self._say(text)
        if self._inside is THOUGHT:
            return [ReasoningPiece(text)] if text else []
        # What looks like a call and is none was meant for whoever reads the answer.
        return [] if self._call(text) else self._say(self._inside.begin + text + end)

    def _say(self, text: str) -> Pieces:
        if self._trim:
            text = text.lstrip()
            self._trim = not text
        return [TextPiece(text)] if text else []

    def _call(self, text: str) -> bool:
        """Takes one call, or a list of them. Returns whether it was that."""
        try:
            found = orjson.loads(text)
            wanted = found if isinstance(found, list) else [found]
            self._calls += [self._read(each, number) for number, each in enumerate(wanted)]
        except MISSHAPEN:
            return False
        return True

    def _read(self, wanted: Any, number: int) -> ToolCall:
        """With an id that is new in the whole conversation: the model gives none."""
        earlier = sum(len(each.tool_calls) for each in self.ask.messages) + len(self._calls)
        arguments = wanted.get("arguments", wanted.get("parameters")) or {}
        text = arguments if isinstance(arguments, str) else orjson.dumps(arguments).decode()
        return ToolCall(f"call_{earlier + number}", str(wanted["name"]), text)


def _first(text: str, words: Sequence[str]) -> tuple[int, str] | None:
    """The word that begins first; of two that begin together, the longer one."""
    found = [(text.find(word), -len(word), word) for word in words if word in text]
    return (min(found)[0], min(found)[2]) if found else None


def _kept(text: str, words: Sequence[str]) -> int:
    """How many characters at its end may be the beginning of a word."""
    longest = min(len(text), max(map(len, words), default=1) - 1)
    sizes = range(longest, 0, -1)
    return next((n for n in sizes if any(word.startswith(text[-n:]) for word in words)), 0)
