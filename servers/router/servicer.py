"""RouterService over gRPC: decode, delegate, encode."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from astromesh.router.v1 import completion_pb2 as pb
from astromesh.router.v1 import provider_pb2, router_service_pb2_grpc, spending_pb2, texts_pb2

from servers.domain.services import Router
from servers.kernel.calls import Context, caller_from
from servers.router.convert import chats as convert
from servers.router.convert import providers as convert_providers
from servers.router.convert import spending as convert_spending
from servers.router.convert import texts as convert_texts


class RouterServicer(router_service_pb2_grpc.RouterServiceServicer):
    def __init__(self, router: Router) -> None:
        self._router = router

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        asked = convert.request_from(request, caller_from(context))
        return convert.completion_to(await self._router.complete(asked))

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: Context
    ) -> AsyncGenerator[pb.StreamCompleteResponse, None]:
        # A cancelled call ends this generator: CancelledError at an await, GeneratorExit
        # at the yield. aclosing() passes it on, down to the provider's socket.
        asked = convert.request_from(request, caller_from(context))
        async with aclosing(self._router.stream(asked)) as steps:
            async for step in steps:
                yield convert.step_to(step)

    async def Embed(
        self, request: texts_pb2.EmbedRequest, context: Context
    ) -> texts_pb2.EmbedResponse:
        asked = convert_texts.embed_from(request, caller_from(context))
        return convert_texts.embeddings_to(await self._router.embed(asked))

    async def Rerank(
        self, request: texts_pb2.RerankRequest, context: Context
    ) -> texts_pb2.RerankResponse:
        asked = convert_texts.rerank_from(request, caller_from(context))
        return convert_texts.ranking_to(await self._router.rerank(asked))

    async def CountTokens(
        self, request: pb.CountTokensRequest, context: Context
    ) -> pb.CountTokensResponse:
        asked = convert_texts.count_from(request)
        return convert_texts.token_count_to(await self._router.count_tokens(asked))

    async def ListModels(
        self, request: provider_pb2.ListModelsRequest, context: Context
    ) -> provider_pb2.ListModelsResponse:
        return convert_providers.models_to(await self._router.models())

    async def ListProviders(
        self, request: provider_pb2.ListProvidersRequest, context: Context
    ) -> provider_pb2.ListProvidersResponse:
        return convert_providers.providers_to(await self._router.providers())

    async def UpdateBreaker(
        self, request: provider_pb2.UpdateBreakerRequest, context: Context
    ) -> provider_pb2.UpdateBreakerResponse:
        state = convert_providers.state_from(request.state)
        changed = await self._router.update_breaker(request.provider, request.model, state)
        return convert_providers.breakers_to(changed)

    async def GetUsage(
        self, request: spending_pb2.GetUsageRequest, context: Context
    ) -> spending_pb2.GetUsageResponse:
        query = convert_spending.query_from(request, caller_from(context).tenant)
        return convert_spending.usage_rows_to(await self._router.usage(query))

    async def ListBudgets(
        self, request: spending_pb2.ListBudgetsRequest, context: Context
    ) -> spending_pb2.ListBudgetsResponse:
        tenant = caller_from(context).tenant
        return convert_spending.budgets_to(await self._router.budgets(tenant, request.budget))
