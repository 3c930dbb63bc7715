"""Texts as vectors, documents by relevance, and how many tokens a chat has."""

from array import array
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from servers.domain.caller import Account
from servers.domain.chat import Message, ModelRef, ToolSpec, Usage

Vector: TypeAlias = "array[float]"  # of type code "f"


class Purpose(Enum):
    """What a text is embedded for: some models want to be told."""

    DOCUMENT = "document"
    QUERY = "query"


@dataclass(frozen=True, slots=True)
class EmbedRequest:
    """Texts to embed. Vectors of different models can't be compared, so that all
    `candidates` must serve the same model; none means the embedded one."""

    texts: tuple[str, ...]
    candidates: tuple[ModelRef, ...] = ()
    purpose: Purpose = Purpose.DOCUMENT
    dimensions: int | None = None  # None: the model's own
    account: Account = field(default_factory=Account)


@dataclass(frozen=True, slots=True)
class Embeddings:
    """One vector a text, in the order of the texts, each of Euclidean length 1."""

    vectors: tuple[Vector, ...]
    usage: Usage
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class RerankRequest:
    """Documents to order by their relevance to `query`. No candidates: the embedded model."""

    query: str
    documents: tuple[str, ...]
    candidates: tuple[ModelRef, ...] = ()
    top_n: int | None = None  # None: all of them
    account: Account = field(default_factory=Account)


@dataclass(frozen=True, slots=True)
class Ranked:
    index: int  # of the document in the request
    score: float  # higher is more relevant; its scale is the model's


@dataclass(frozen=True, slots=True)
class Ranking:
    """The documents, best first; equals keep their order."""

    ranked: tuple[Ranked, ...]
    usage: Usage
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class CountRequest:
    """A chat whose tokens are to be counted as `candidate` counts them."""

    candidate: ModelRef
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenCount:
    tokens: int
    exact: bool  # counted by the model's own tokenizer; else it is an estimate
    counted_by: str  # the tokenizer, or what the estimate rests on
    provider: str
    model: str
