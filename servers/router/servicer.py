"""RouterService over gRPC: decode, delegate, encode."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from astromesh.router.v1 import router_service_pb2 as pb
from astromesh.router.v1 import router_service_pb2_grpc

from servers.domain.services import Router
from servers.kernel.calls import Context
from servers.router import convert


class RouterServicer(router_service_pb2_grpc.RouterServiceServicer):
    def __init__(self, router: Router) -> None:
        self._router = router

    async def Complete(self, request: pb.CompleteRequest, context: Context) -> pb.CompleteResponse:
        return convert.completion_to(await self._router.complete(convert.request_from(request)))

    async def StreamComplete(
        self, request: pb.StreamCompleteRequest, context: Context
    ) -> AsyncGenerator[pb.StreamCompleteResponse, None]:
        # A cancelled call ends this generator: CancelledError at an await, GeneratorExit
        # at the yield. aclosing() passes it on, down to the provider's socket.
        async with aclosing(self._router.stream(convert.request_from(request))) as steps:
            async for step in steps:
                yield convert.step_to(step)

    async def ListModels(
        self, request: pb.ListModelsRequest, context: Context
    ) -> pb.ListModelsResponse:
        return convert.models_to(await self._router.models())

    async def ListProviders(
        self, request: pb.ListProvidersRequest, context: Context
    ) -> pb.ListProvidersResponse:
        return convert.providers_to(await self._router.providers())

    async def UpdateBreaker(
        self, request: pb.UpdateBreakerRequest, context: Context
    ) -> pb.UpdateBreakerResponse:
        state = convert.state_from(request.state)
        changed = await self._router.update_breaker(request.provider, request.model, state)
        return convert.breakers_to(changed)
