"""The router as strangers may use it: keys by name only where the configuration names them.

Without this, whoever may call RouterService could have any environment variable sent to an
address of his own.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from servers.domain.chat import ChatRequest, Completion, ModelRef, Step
from servers.domain.embeddings import (
    CountRequest,
    Embeddings,
    EmbedRequest,
    Ranking,
    RerankRequest,
    TokenCount,
)
from servers.domain.models import BreakerInfo, BreakerState, ModelInfo, ProviderInfo
from servers.domain.services import Router
from servers.domain.usage import BudgetState, UsageQuery, UsageRow
from servers.kernel.errors import Denied


@dataclass(frozen=True, slots=True)
class GuardedRouter:
    router: Router
    variables: frozenset[str]  # that providers.yaml and the agents in files name

    async def complete(self, request: ChatRequest) -> Completion:
        self._check(request.candidates)
        return await self.router.complete(request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        self._check(request.candidates)
        async with aclosing(self.router.stream(request)) as steps:
            async for step in steps:
                yield step

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self._check(request.candidates)
        return await self.router.embed(request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        self._check(request.candidates)
        return await self.router.rerank(request)

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        self._check([request.candidate])
        return await self.router.count_tokens(request)

    async def models(self) -> Sequence[ModelInfo]:
        return await self.router.models()

    async def providers(self) -> Sequence[ProviderInfo]:
        return await self.router.providers()

    async def update_breaker(
        self, provider: str, model: str, state: BreakerState
    ) -> Sequence[BreakerInfo]:
        return await self.router.update_breaker(provider, model, state)

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        return await self.router.usage(query)

    async def budgets(self, tenant: str, name: str = "") -> Sequence[BudgetState]:
        return await self.router.budgets(tenant, name)

    def _check(self, candidates: Sequence[ModelRef]) -> None:
        for ref in candidates:
            if ref.api_key_env and ref.api_key_env not in self.variables:
                raise Denied(
                    f"the variable {ref.api_key_env!r} may not be used as a key: name it in "
                    "providers.yaml, or name a provider that has a key",
                    reason="VARIABLE_DENIED",
                    variable=ref.api_key_env,
                )
