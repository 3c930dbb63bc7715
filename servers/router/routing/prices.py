"""What a model call costs, from the price list (config/prices.yaml)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from servers.domain.chat import Usage
from servers.kernel import yaml_text
from servers.kernel.errors import InvalidInput, Violation
from servers.router import kinds
from servers.router.ports import Price

FREE = Price(0.0, 0.0, 0.0)
_SNAPSHOT = re.compile(r"-\d{4}-?\d{2}-?\d{2}$")  # gpt-4o-2024-08-06 costs what gpt-4o costs


@dataclass(frozen=True, slots=True)
class PriceList:
    """Prices by the host that charges them, then by model.

    By host, because the same model name costs nothing on one's own machine and
    something else at every vendor.
    """

    hosts: Mapping[str, Mapping[str, Price]] = field(default_factory=dict)

    def price(self, kind: str, endpoint: str, model: str) -> Price | None:
        """None where nobody said: unknown, not free."""
        if kinds.kind(kind).free:
            return FREE
        models = self.hosts.get(urlsplit(endpoint).hostname or "")
        if models is None:
            return None
        return models.get(model) or models.get(_SNAPSHOT.sub("", model))


def cost(price: Price | None, usage: Usage) -> float | None:
    """USD, or None where a price that is needed is unknown."""
    if price is None or price.input is None or price.output is None:
        return None
    cached_price = price.input if price.cached is None else price.cached
    fresh = usage.prompt_tokens - usage.cached_tokens
    return (
        fresh * price.input
        + usage.cached_tokens * cached_price
        + usage.completion_tokens * price.output
    ) / 1_000_000


def priced(price: Price | None, usage: Usage) -> Usage:
    return Usage(
        usage.prompt_tokens,
        usage.completion_tokens,
        usage.cached_tokens,
        cost(price, usage),
        usage.estimated,
    )


class _Row(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0)
    output: float = Field(ge=0)
    cached: float | None = Field(default=None, ge=0)


class _File(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    prices: dict[str, dict[str, _Row]]


def _only(path: Path) -> Any:
    documents = yaml_text.read_yaml(path.read_bytes(), path.name)
    return documents[0].value if len(documents) == 1 else None


def load_prices(path: Path) -> PriceList:
    """Read the price list. Raises InvalidInput that names file and field."""
    try:
        rows = _File.model_validate(_only(path)).prices
    except ValidationError as error:
        found = tuple(
            Violation(".".join(map(str, each["loc"])), each["msg"]) for each in error.errors()
        )
        raise InvalidInput(
            f"{path.name}: {found[0].field}: {found[0].description}", violations=found
        ) from None
    return PriceList(
        {
            host: {name: Price(row.input, row.output, row.cached) for name, row in models.items()}
            for host, models in rows.items()
        }
    )
