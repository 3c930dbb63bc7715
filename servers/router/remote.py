"""`Router` answered by another process: same calls, same values, same errors."""

from collections.abc import AsyncGenerator, Sequence

import grpc
from astromesh.router.v1 import router_service_pb2 as pb
from astromesh.router.v1 import router_service_pb2_grpc

from servers.domain.chat import ChatRequest, Completion, Step
from servers.domain.models import BreakerInfo, BreakerState, ModelInfo, ProviderInfo
from servers.kernel.status import domain_errors
from servers.kernel.telemetry import outgoing_headers
from servers.router import convert


class RemoteRouter:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = router_service_pb2_grpc.RouterServiceStub(channel)

    async def complete(self, request: ChatRequest) -> Completion:
        with domain_errors("router"):
            return convert.completion_from(
                await self._stub.Complete(convert.complete_to(request), metadata=_trace())
            )

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        call = self._stub.StreamComplete(convert.stream_to(request), metadata=_trace())
        try:
            with domain_errors("router"):
                async for answer in call:
                    if (step := convert.step_from(answer)) is not None:
                        yield step
        finally:
            call.cancel()  # no effect on a finished call

    async def models(self) -> Sequence[ModelInfo]:
        with domain_errors("router"):
            return convert.models_from(await self._stub.ListModels(pb.ListModelsRequest()))

    async def providers(self) -> Sequence[ProviderInfo]:
        with domain_errors("router"):
            return convert.providers_from(await self._stub.ListProviders(pb.ListProvidersRequest()))

    async def update_breaker(
        self, provider: str, model: str, state: BreakerState
    ) -> Sequence[BreakerInfo]:
        request = pb.UpdateBreakerRequest(
            provider=provider, model=model, state=convert.state_to(state)
        )
        with domain_errors("router"):
            return convert.breakers_from(await self._stub.UpdateBreaker(request))


def _trace() -> tuple[tuple[str, str], ...]:
    return tuple(outgoing_headers().items())
