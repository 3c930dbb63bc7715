"""What the tests of encoders ask."""

from collections.abc import AsyncIterator
from math import sqrt

import numpy as np
import pytest

from servers.domain.embeddings import Purpose
from servers.router.adapters.encoders import packaged
from servers.router.adapters.encoders.onnx_embeddings import OnnxEmbeddings
from servers.router.adapters.encoders.owner import Encoders, open_encoders
from servers.router.ports import EmbedAsk, RerankAsk
from tests.contract.tiny_encoders import hidden


@pytest.fixture
async def encoders() -> AsyncIterator[Encoders]:
    async with open_encoders() as encoders:
        yield encoders


def embed_ask(*texts: str, purpose: Purpose = Purpose.DOCUMENT) -> EmbedAsk:
    return EmbedAsk(packaged.MODEL, texts, purpose)


async def vectors(model: OnnxEmbeddings, *texts: str, **wanted) -> np.ndarray:
    return np.array((await model.embed(embed_ask(*texts, **wanted))).vectors)


async def scores(model, query: str, *documents: str) -> tuple[float, ...]:
    return (await model.rerank(RerankAsk(packaged.MODEL, query, documents))).scores


def maxsim(query: list[str], pieces: list) -> float:
    """In so many words, without numpy's products: the definition."""

    def cosine(one, other) -> float:
        product = sum(a * b for a, b in zip(one, other, strict=True))
        return product / sqrt(sum(a * a for a in one) * sum(b * b for b in other))

    words = hidden(*query)[1:-1]
    rows = [row for piece in pieces for row in hidden(*piece)[1:-1]]
    return float(sum(max(cosine(word, row) for row in rows) for word in words) / len(words))
