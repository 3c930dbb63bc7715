"""Every provider over HTTP, each with the scripted server that stands for its like."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial

import pytest

from servers.domain.chat import Role, Step, TextPiece, ToolSpec, says
from servers.router.adapters.http import Http
from servers.router.adapters.ollama.provider import Ollama
from servers.router.adapters.openai.azure import AzureOpenAI
from servers.router.adapters.openai.compat import OpenAI, OpenAICompat
from servers.router.adapters.openai.hf_tgi import HfTgi
from servers.router.adapters.openai.llamacpp import LlamaCpp
from servers.router.adapters.openai.vllm import Vllm
from servers.router.ports import Ask, Provider
from tests.scripted.azure_server import azure_server
from tests.scripted.http_server import Asked, ScriptedServer
from tests.scripted.llamacpp_server import llamacpp_server
from tests.scripted.ollama_server import ollama_server
from tests.scripted.openai_server import openai_server
from tests.scripted.tgi_server import tgi_server
from tests.scripted.vllm_server import vllm_server

HELLO = (says(Role.USER, "hello"),)
WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object", "properties": {}})
NOON = 1_700_000_000.0  # what the injected clock says


@dataclass(frozen=True)
class Kind:
    """A type of provider. What its servers never do is not asked of it."""

    name: str
    provider: Callable[[str, Http], Provider]
    server: Callable[..., AbstractAsyncContextManager[ScriptedServer]]
    thinks: bool = True  # says what it thought
    caches: bool = True  # counts cached tokens
    whole_calls: bool = False  # tool calls are objects, never broken text
    key: str = "authorization"


OPENAI_COMPAT = Kind("openai_compat", OpenAICompat, openai_server)
OPENAI = Kind("openai", OpenAI, openai_server)
AZURE = Kind("azure_openai", AzureOpenAI, azure_server, key="api-key")
DATED_AZURE = Kind(
    "azure_openai-dated",
    partial(AzureOpenAI, api_version="2024-10-21"),
    azure_server,
    key="api-key",
)
VLLM = Kind("vllm", Vllm, vllm_server)
LLAMACPP = Kind("llamacpp", LlamaCpp, llamacpp_server)
OLD_LLAMACPP = Kind("llamacpp-old", LlamaCpp, partial(llamacpp_server, old=True))
TGI = Kind("hf_tgi", HfTgi, tgi_server, thinks=False, caches=False)
OLLAMA = Kind("ollama", Ollama, ollama_server, caches=False, whole_calls=True)

KINDS = (
    OPENAI_COMPAT,
    OPENAI,
    AZURE,
    DATED_AZURE,
    VLLM,
    LLAMACPP,
    OLD_LLAMACPP,
    TGI,
    OLLAMA,
)
LIKE_OPENAI = KINDS[:-1]


def only(*kinds: Kind) -> pytest.MarkDecorator:
    """Asks a test of these kinds alone."""
    return pytest.mark.parametrize("kind", kinds, ids=lambda kind: kind.name)


def ask(**wanted) -> Ask:
    return Ask(**{"model": "m", "messages": HELLO, **wanted})


async def whole(provider: Provider, asked: Ask) -> list[Step]:
    completion = await provider.complete(asked)
    return [TextPiece(completion.message.text), completion.finish]


async def streamed(provider: Provider, asked: Ask) -> list[Step]:
    return [step async for step in provider.stream(asked)]


async def arrived(kind: Kind, http: Http, asked: Ask) -> Asked:
    """The request as a server of this kind sees it."""
    async with kind.server() as server:
        await kind.provider(server.endpoint, http).complete(asked)
    return server.requests[0]


def text(steps: list[Step]) -> str:
    return "".join(step.text for step in steps if isinstance(step, TextPiece))
