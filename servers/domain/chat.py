"""What is said between an agent and a model: messages in, steps out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, TypeAlias

from servers.domain.caller import Account

Json: TypeAlias = Mapping[str, Any]


class Role(Enum):
    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of written content."""

    text: str


@dataclass(frozen=True, slots=True)
class Image:
    """A picture, by address or by value. Exactly one of `url` and `data` is set."""

    url: str = ""
    data: bytes = b""
    media_type: str = ""


Part: TypeAlias = Text | Image


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A model's wish to call a tool.

    `arguments` is the JSON text as the model wrote it, which may be broken: whoever
    runs the tool parses it, so that the model can be told what was wrong. Providers
    turn an empty string into ``{}``.
    """

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    role: Role
    parts: tuple[Part, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""  # for Role.TOOL: which call this answers
    reasoning: str = ""  # what a reasoning model thought; some want it echoed back

    @property
    def text(self) -> str:
        return "".join(part.text for part in self.parts if isinstance(part, Text))


def says(role: Role, text: str) -> Message:
    """The most common message: one piece of text."""
    return Message(role, (Text(text),))


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as a model sees it. `parameters` is a JSON Schema of type object."""

    name: str
    description: str
    parameters: Json


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or several model calls. `cost_usd` is None where the price is unknown."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  # the part of prompt_tokens that came from the provider's cache
    cost_usd: float | None = None
    estimated: bool = False  # the call was cut off before the provider reported its count

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: "Usage") -> "Usage":
        known = [c for c in (self.cost_usd, other.cost_usd) if c is not None]
        return Usage(
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
            self.cached_tokens + other.cached_tokens,
            sum(known) if known else None,
            self.estimated or other.estimated,
        )


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What one model used in several calls."""

    provider: str
    model: str
    calls: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the caller should know that did not keep the call from succeeding."""

    reason: str  # UPPER_SNAKE
    message: str


class FinishReason(Enum):
    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"


@dataclass(frozen=True, slots=True)
class TextPiece:
    text: str


@dataclass(frozen=True, slots=True)
class ReasoningPiece:
    text: str


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a stream that went well: nothing follows.

    `tool_calls` are whole here; providers gather their fragments. `usage` is that of the
    attempt that answered. Other attempts of the same call were paid for, too: a hedge that
    lost, an answer that had to be repaired. `besides` has what they used.
    """

    reason: FinishReason = FinishReason.STOP
    tool_calls: tuple[ToolCall, ...] = ()
    usage: Usage = field(default_factory=Usage)
    provider: str = ""
    model: str = ""
    besides: tuple[ModelUsage, ...] = ()
    emulated: bool = False  # tools were offered as constrained JSON: the model has no native calls
    cached: bool = False  # an earlier answer to the very same request: no model was asked
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who says what follows, where that is not the first candidate.

    A stream that is cut off has no Finish to say whose it was.
    """

    provider: str
    model: str


Step: TypeAlias = Speaker | TextPiece | ReasoningPiece | Finish


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample. None means the model's own default; `extra` goes to the provider as it is."""

    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None
    extra: Json = field(default_factory=dict)

    def over(self, base: "Sampling") -> "Sampling":
        """These settings where they are set, `base` elsewhere."""
        return Sampling(
            base.temperature if self.temperature is None else self.temperature,
            base.top_p if self.top_p is None else self.top_p,
            base.max_tokens if self.max_tokens is None else self.max_tokens,
            self.stop or base.stop,
            base.seed if self.seed is None else self.seed,
            {**base.extra, **self.extra},
        )


@dataclass(frozen=True, slots=True)
class ModelRef:
    """One candidate: a model at a provider.

    `provider` is a name under `providers:` of a ProviderConfig, or a provider type
    such as "ollama". The other fields override what the ProviderConfig says.
    """

    provider: str
    model: str = ""  # empty: the provider's first declared model
    endpoint: str = ""
    api_key_env: str = ""
    api_key: str = field(default="", repr=False)
    timeout: float | None = None  # seconds for the whole attempt
    context_window: int | None = None  # tokens
    sampling: Sampling = field(default_factory=Sampling)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A chat to complete on the best of `candidates`, which are tried under `strategy`.

    With an `output_schema` (JSON Schema) the text of an answer without tool calls is JSON
    that fits it, and a stream shows it only once that is known.
    """

    messages: tuple[Message, ...]
    candidates: tuple[ModelRef, ...]
    strategy: str = ""  # empty: candidates in the given order
    tools: tuple[ToolSpec, ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    output_schema: Json | None = None
    hedge: bool = False  # ask a second candidate when the first one is slow to begin
    cache_ttl: float = 0.0  # seconds an earlier answer to the same request will do; 0: never
    account: Account = field(default_factory=Account)


@dataclass(frozen=True, slots=True)
class Completion:
    """A whole answer of a model."""

    message: Message
    finish: Finish
