"""The router as strangers may use it: keys by name only where the configuration names them.

Without this, whoever may call RouterService could have any environment variable sent to an
address of his own.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from servers.domain.chat import ChatRequest, Completion, Step
from servers.domain.models import BreakerInfo, BreakerState, ModelInfo, ProviderInfo
from servers.domain.services import Router
from servers.kernel.errors import Denied


@dataclass(frozen=True, slots=True)
class GuardedRouter:
    router: Router
    variables: frozenset[str]  # that providers.yaml and the agents in files name

    async def complete(self, request: ChatRequest) -> Completion:
        self._check(request)
        return await self.router.complete(request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        self._check(request)
        async with aclosing(self.router.stream(request)) as steps:
            async for step in steps:
                yield step

    async def models(self) -> Sequence[ModelInfo]:
        return await self.router.models()

    async def providers(self) -> Sequence[ProviderInfo]:
        return await self.router.providers()

    async def update_breaker(
        self, provider: str, model: str, state: BreakerState
    ) -> Sequence[BreakerInfo]:
        return await self.router.update_breaker(provider, model, state)

    def _check(self, request: ChatRequest) -> None:
        for ref in request.candidates:
            if ref.api_key_env and ref.api_key_env not in self.variables:
                raise Denied(
                    f"the variable {ref.api_key_env!r} may not be used as a key: name it in "
                    "providers.yaml, or name a provider that has a key",
                    reason="VARIABLE_DENIED",
                    variable=ref.api_key_env,
                )
