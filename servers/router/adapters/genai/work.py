"""What a conversation needs to be worked on, whatever way the package does that."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

Event: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Work:
    prompt: Any  # tokens: a numpy array of int32
    limit: int  # tokens of the answer
    search: Mapping[str, Any]
    schema: str  # JSON; empty: the answer may be anything


@dataclass(slots=True)
class Voice:
    """From tokens to what is told of them."""

    stream: Any  # the package's decoder, which keeps characters whole
    eos: frozenset[int]
    words: Mapping[int, str]  # tokens that decoding would leave out
    tokens: int = field(default=0, init=False)

    def say(self, token: int) -> Event:
        self.tokens += 1
        if token in self.eos:
            return self.end("stop")
        text = self.words.get(token) or self.stream.decode(token)
        return {"text": text, "tokens": self.tokens}

    def end(self, reason: str, cached: int = 0) -> Event:
        """`cached`: tokens of the prompt that were known from an earlier one."""
        return {"end": reason, "tokens": self.tokens, "cached": cached}


class Engine(Protocol):
    """Works on several conversations at once. RuntimeError is what the package raises."""

    @property
    def busy(self) -> bool: ...

    def begin(self, number: int, work: Work, voice: Voice) -> None:
        """Raises RuntimeError for what the package refuses."""
        ...

    def guides(self) -> bool:
        """Whether it takes a schema that is certainly right: not every build does."""
        ...

    def cancel(self, number: int) -> None: ...

    def advance(self) -> Iterator[tuple[int, Event]]:
        """One step, and what comes of it."""
        ...
