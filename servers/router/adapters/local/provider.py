"""The embedded model: llama.cpp in a process of its own, spoken to like any of its servers."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import ClassVar

from servers.domain.chat import Completion, Sampling, Step
from servers.domain.models import Capabilities
from servers.kernel.errors import NotReady
from servers.router.adapters.http import Http
from servers.router.adapters.local.process import MODEL, Address, LocalModel, WorkerSettings
from servers.router.adapters.openai.llamacpp import LlamaCpp
from servers.router.ports import Ask

_ABLE = Capabilities(
    tools=False,  # its chat template has no place for them
    vision=False,
    json_schema=True,
    context_window=WorkerSettings("").context_window,
    emulated_tools=True,
)


# So small a model does not always find an end, and it has few places.
_BOUNDED = Sampling(max_tokens=512)


class Local:
    """Tokens come from the same place for every agent, two conversations at a time."""

    endpoint = "local:"
    needs: ClassVar = ("http", "local")

    def __init__(
        self, endpoint: str, http: Http, model: LocalModel, bounded: Sampling = _BOUNDED
    ) -> None:
        self._http = http
        self._model = model
        self._bounded = bounded
        self._spoken: tuple[Address, LlamaCpp] | None = None

    async def complete(self, ask: Ask) -> Completion:
        provider, ask = await self._reach(ask)
        return await provider.complete(ask)

    async def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        provider, ask = await self._reach(ask)
        async with aclosing(provider.stream(ask)) as steps:
            async for step in steps:
                yield step

    async def count_tokens(self, ask: Ask) -> int:
        provider, ask = await self._reach(ask)
        return await provider.count_tokens(ask)

    async def health(self, api_key: str) -> None:
        await self._model.ready(0.1)

    def capabilities(self, model: str) -> Capabilities:
        return _ABLE

    async def _reach(self, ask: Ask) -> tuple[LlamaCpp, Ask]:
        if ask.model != MODEL:
            raise NotReady(
                f"the local provider has only {MODEL!r}, no {ask.model!r}", reason="MODEL_NOT_FOUND"
            )
        address = await self._model.ready(ask.timeouts.first_token)
        if self._spoken is None or self._spoken[0] != address:
            self._spoken = address, LlamaCpp(address.endpoint, self._http)
        sampling = ask.sampling.over(self._bounded)
        return self._spoken[1], replace(ask, api_key=address.api_key, sampling=sampling)
