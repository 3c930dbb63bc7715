"""Models and providers as resources."""

from dataclasses import dataclass
from enum import Enum


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a model can be asked to do. None means not declared."""

    tools: bool | None = None
    vision: bool | None = None
    json_schema: bool | None = None
    streaming: bool = True
    context_window: int | None = None  # tokens


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
    models: tuple[str, ...] = ()
    breakers: tuple[BreakerInfo, ...] = ()
