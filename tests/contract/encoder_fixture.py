"""Embedders and rerankers of this process, for the contract suites."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from servers.router.adapters.encoders import packaged
from servers.router.adapters.encoders.onnx_cross_encoder import OnnxCrossEncoder
from servers.router.adapters.encoders.onnx_embeddings import OnnxEmbeddings
from servers.router.adapters.encoders.owner import open_encoders
from tests.contract.text_subjects import Embedding, Ranking
from tests.contract.tiny_encoders import cross_encoder


@asynccontextmanager
async def embedding(folder: Path) -> AsyncIterator[Embedding]:
    async with open_encoders() as encoders:
        yield Embedding(OnnxEmbeddings(packaged.ENDPOINT, encoders), packaged.MODEL)


@asynccontextmanager
async def late_interaction(folder: Path) -> AsyncIterator[Ranking]:
    async with open_encoders() as encoders:
        yield Ranking(OnnxEmbeddings(packaged.ENDPOINT, encoders), packaged.MODEL)


@asynccontextmanager
async def cross_encoding(folder: Path) -> AsyncIterator[Ranking]:
    """With the packaged model's tokenizer, which has a token for everything."""
    cross_encoder(folder)
    shutil.copy(packaged.packaged().tokenizer, folder / "tokenizer.json")
    async with open_encoders() as encoders:
        yield Ranking(OnnxCrossEncoder(str(folder), encoders))
