"""A router that passes everything on to another one: what wrappers change, they override."""

from collections.abc import AsyncGenerator, Sequence

from servers.domain.chat import ChatRequest, Completion, Step
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


class PassingRouter:
    """Satisfies `servers.domain.services.Router`."""

    def __init__(self, router: Router) -> None:
        self._router = router

    async def complete(self, request: ChatRequest) -> Completion:
        return await self._router.complete(request)

    def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        return self._router.stream(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        return await self._router.embed(request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        return await self._router.rerank(request)

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        return await self._router.count_tokens(request)

    async def models(self) -> Sequence[ModelInfo]:
        return await self._router.models()

    async def providers(self) -> Sequence[ProviderInfo]:
        return await self._router.providers()

    async def update_breaker(
        self, provider: str, model: str, state: BreakerState
    ) -> Sequence[BreakerInfo]:
        return await self._router.update_breaker(provider, model, state)

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        return await self._router.usage(query)

    async def budgets(self, tenant: str, name: str = "") -> Sequence[BudgetState]:
        return await self._router.budgets(tenant, name)
