"""Models and providers as resources."""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can be asked to do. None means not declared."""

    tools: bool | None = None  # natively
    vision: bool | None = None
    json_schema: bool | None = None
    streaming: bool = True
    context_window: int | None = None  # tokens
    emulated_tools: bool = False  # without native tools: it may be asked for constrained JSON


class BreakerState(Enum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    provider: str
    model: str
    capabilities: Capabilities
    input_price: float | None = None  # USD per million tokens; None is unknown, not free
    output_price: float | None = None
    cached_price: float | None = None  # of prompt tokens from the provider's cache
    quality_rank: int | None = None  # 1 is best; None: not declared
    does: frozenset[str] = frozenset({"chat"})  # chat, embed, rerank, count


@dataclass(frozen=True, slots=True)
class BreakerInfo:
    provider: str
    model: str
    endpoint: str
    state: BreakerState
    failures: int  # in a row
    retry_after: float = 0.0  # seconds until a probe may go out
    forced: bool = False  # set by UpdateBreaker, not by failures


@dataclass(frozen=True, slots=True)
class ProviderInfo:
    name: str
    kind: str
    endpoint: str
    healthy: bool | None  # None: not probed yet
    detail: str = ""  # why it is not healthy
    latency: float | None = None  # seconds, moving average of whole calls; None: none yet
    first_token: float | None = None  # the same of the time to the first piece of a stream
    active: int = 0  # calls at work
    waiting: int = 0  # calls that wait for a place
    models: tuple[str, ...] = ()
    breakers: tuple[BreakerInfo, ...] = ()
