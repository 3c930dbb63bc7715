"""Our router in process, without the mesh around it."""

import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from bench.callers import Ask
from bench.instant_model import answer_to
from bench.subjects import SYSTEM, Asking, Setup
from servers.domain.chat import ChatRequest, ModelRef, Role, TextPiece, says
from servers.router.adapters.pool import open_providers
from servers.router.ports import ModelSettings, ProviderSettings, RouterSettings, Timeouts
from servers.router.service import ModelRouter

_SAYS = says(Role.SYSTEM, SYSTEM)


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Asking]:
    candidates = tuple(ModelRef(name, "instant") for name in setup.ports)
    with tempfile.TemporaryDirectory() as folder:
        async with open_providers(Path(folder)) as pool:
            router = ModelRouter(_settings(setup), pool, env={})

            def asking(stream: bool) -> Ask:
                return _streamed(router, candidates) if stream else _whole(router, candidates)

            yield asking


def _settings(setup: Setup) -> RouterSettings:
    providers = {name: _provider(name, port, setup) for name, port in setup.ports.items()}
    settings = RouterSettings(providers)
    if setup.failures is not None:
        settings = replace(settings, failure_threshold=setup.failures)
    if setup.cooldown is not None:
        settings = replace(settings, recovery_timeout=setup.cooldown)
    return settings


def _provider(name: str, port: int, setup: Setup) -> ProviderSettings:
    limits = Timeouts()
    if setup.first_token is not None:
        limits = replace(limits, first_token=setup.first_token)
    return ProviderSettings(
        name,
        "openai_compat",
        f"http://127.0.0.1:{port}/v1",
        api_key="not-needed",
        models=(ModelSettings("instant"),),
        timeouts=limits,
    )


def _whole(router: ModelRouter, candidates: tuple[ModelRef, ...]) -> Ask:
    async def ask(question: str) -> str:
        request = ChatRequest((_SAYS, says(Role.USER, question)), candidates)
        said = (await router.complete(request)).message.text
        return "" if said == answer_to(question) else said or "nothing"

    return ask


def _streamed(router: ModelRouter, candidates: tuple[ModelRef, ...]) -> Ask:
    async def ask(question: str) -> str:
        request = ChatRequest((_SAYS, says(Role.USER, question)), candidates)
        pieces = [step.text async for step in router.stream(request) if type(step) is TextPiece]
        said = "".join(pieces)
        return "" if said == answer_to(question) else said or "nothing"

    return ask
