"""Embedders and rerankers as the contract suites meet them: over HTTP, or in this process.

To put another one under the suites, write an async context manager that takes a folder and
gives an `Embedding` or a `Ranking` (text_subjects.py), and add it to the lists at the end of
this module.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from servers.router.adapters.http import Http, open_http
from servers.router.adapters.ollama.provider import Ollama
from servers.router.adapters.openai.azure import AzureOpenAI
from servers.router.adapters.openai.compat import OpenAI, OpenAICompat
from servers.router.adapters.openai.llamacpp import LlamaCpp
from servers.router.adapters.openai.vllm import Vllm
from servers.router.adapters.texts.cohere import Cohere
from servers.router.adapters.texts.tei import TextEmbeddingsInference
from tests.contract import encoder_fixture, llama_fixture
from tests.contract.text_subjects import Embedding, Ranking
from tests.scripted.azure_server import azure_server
from tests.scripted.cohere_server import cohere_server
from tests.scripted.http_server import ScriptedServer
from tests.scripted.llamacpp_server import llamacpp_server
from tests.scripted.ollama_server import ollama_server
from tests.scripted.openai_server import openai_server
from tests.scripted.tei_server import tei_server
from tests.scripted.vllm_server import vllm_server


@dataclass(frozen=True)
class OverHttp:
    """An adapter, and the scripted server that stands for what it speaks to."""

    adapter: Callable[[str, Http], Any]
    server: Callable[..., AbstractAsyncContextManager[ScriptedServer]]
    per_request: int  # texts that it puts into one request
    key: str = "authorization"  # the header that has it

    @asynccontextmanager
    async def embedding(self, folder: Path) -> AsyncIterator[Embedding]:
        async with self.server() as server, open_http() as http:
            yield Embedding(self.adapter(server.endpoint, http))

    @asynccontextmanager
    async def ranking(self, folder: Path) -> AsyncIterator[Ranking]:
        async with self.server() as server, open_http() as http:
            yield Ranking(self.adapter(server.endpoint, http))


ALL = 1_000_000

HTTP_EMBEDDERS = {
    "openai_compat": OverHttp(OpenAICompat, openai_server, 128),
    "openai": OverHttp(OpenAI, openai_server, 512),
    "azure_openai": OverHttp(AzureOpenAI, azure_server, 512, "api-key"),
    "azure_openai-dated": OverHttp(
        partial(AzureOpenAI, api_version="2024-10-21"), azure_server, 512, "api-key"
    ),
    "vllm": OverHttp(Vllm, vllm_server, 512),
    "llamacpp": OverHttp(LlamaCpp, llamacpp_server, 128),
    "ollama": OverHttp(Ollama, ollama_server, 128),
    "tei": OverHttp(TextEmbeddingsInference, tei_server, 32),
    "cohere": OverHttp(Cohere, cohere_server, 96),
}
IN_BASE64 = {"openai", "azure_openai", "azure_openai-dated", "vllm"}  # it has no null
HTTP_RERANKERS = {
    "vllm": OverHttp(Vllm, vllm_server, ALL),
    "llamacpp": OverHttp(LlamaCpp, llamacpp_server, ALL),
    "tei": OverHttp(TextEmbeddingsInference, partial(tei_server, kind="reranker"), 32),
    "cohere": OverHttp(Cohere, cohere_server, ALL),
}

# What every embedder and every reranker is held to. Slow or optional ones bring their marks.
EMBEDDERS = [pytest.param(each.embedding, id=name) for name, each in HTTP_EMBEDDERS.items()]
RERANKERS = [pytest.param(each.ranking, id=name) for name, each in HTTP_RERANKERS.items()]

_REAL_LLAMA = {"id": "llamacpp-real", "marks": pytest.mark.local_model}
EMBEDDERS.append(pytest.param(llama_fixture.embedding, **_REAL_LLAMA))
RERANKERS.append(pytest.param(llama_fixture.ranking, **_REAL_LLAMA))

_PACKAGED = "onnx_embeddings"
EMBEDDERS.append(pytest.param(encoder_fixture.embedding, id=_PACKAGED))
RERANKERS.append(pytest.param(encoder_fixture.late_interaction, id=_PACKAGED))
RERANKERS.append(pytest.param(encoder_fixture.cross_encoding, id="onnx_cross_encoder"))
