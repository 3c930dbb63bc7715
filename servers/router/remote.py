"""`Router` answered by another process: same calls, same values, same errors."""

from collections.abc import AsyncGenerator, Sequence

import grpc
from astromesh.router.v1 import provider_pb2 as pb
from astromesh.router.v1 import router_service_pb2_grpc, spending_pb2

from servers.domain.caller import Account, Caller
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
from servers.domain.usage import BudgetState, UsageQuery, UsageRow
from servers.kernel.calls import metadata_of
from servers.kernel.status import domain_errors
from servers.router.convert import chats as convert
from servers.router.convert import providers as convert_providers
from servers.router.convert import spending as convert_spending
from servers.router.convert import texts as convert_texts


class RemoteRouter:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = router_service_pb2_grpc.RouterServiceStub(channel)

    async def complete(self, request: ChatRequest) -> Completion:
        with domain_errors("router"):
            return convert.completion_from(
                await self._stub.Complete(
                    convert.complete_to(request), metadata=_for(request.account)
                )
            )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        call = self._stub.StreamComplete(convert.stream_to(request), metadata=_for(request.account))
        try:
            with domain_errors("router"):
                async for answer in call:
                    if (step := convert.step_from(answer)) is not None:
                        yield step
        finally:
            call.cancel()  # no effect on a finished call

    async def embed(self, request: EmbedRequest) -> Embeddings:
        asked, metadata = convert_texts.embed_to(request), _for(request.account)
        with domain_errors("router"):
            return convert_texts.embeddings_from(await self._stub.Embed(asked, metadata=metadata))

    async def rerank(self, request: RerankRequest) -> Ranking:
        asked, metadata = convert_texts.rerank_to(request), _for(request.account)
        with domain_errors("router"):
            return convert_texts.ranking_from(await self._stub.Rerank(asked, metadata=metadata))

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        asked = convert_texts.count_to(request)
        with domain_errors("router"):
            return convert_texts.token_count_from(await self._stub.CountTokens(asked))

    async def models(self) -> Sequence[ModelInfo]:
        with domain_errors("router"):
            return convert_providers.models_from(
                await self._stub.ListModels(pb.ListModelsRequest())
            )

    async def providers(self) -> Sequence[ProviderInfo]:
        with domain_errors("router"):
            return convert_providers.providers_from(
                await self._stub.ListProviders(pb.ListProvidersRequest())
            )

    async def update_breaker(
        self, provider: str, model: str, state: BreakerState
    ) -> Sequence[BreakerInfo]:
        request = pb.UpdateBreakerRequest(
            provider=provider, model=model, state=convert_providers.state_to(state)
        )
        with domain_errors("router"):
            return convert_providers.breakers_from(await self._stub.UpdateBreaker(request))

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        metadata = _for(Account(query.where.get("tenant", "default")))
        with domain_errors("router"):
            answer = await self._stub.GetUsage(convert_spending.query_to(query), metadata=metadata)
            return convert_spending.usage_rows_from(answer)

    async def budgets(self, tenant: str, name: str = "") -> Sequence[BudgetState]:
        request, metadata = spending_pb2.ListBudgetsRequest(budget=name), _for(Account(tenant))
        with domain_errors("router"):
            answer = await self._stub.ListBudgets(request, metadata=metadata)
            return convert_spending.budgets_from(answer)


def _for(account: Account) -> list[tuple[str, str]]:
    """On whose account, and in which trace."""
    return metadata_of(Caller(account.tenant, account.principal))
