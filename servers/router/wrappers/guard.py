"""The router as strangers may use it: keys by name only where the configuration names them.

Without this, whoever may call RouterService could have any environment variable sent to an
address of his own.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from contextlib import aclosing

from servers.domain.chat import ChatRequest, Completion, ModelRef, Step
from servers.domain.embeddings import (
    CountRequest,
    Embeddings,
    EmbedRequest,
    Ranking,
    RerankRequest,
    TokenCount,
)
from servers.domain.services import Router
from servers.kernel.errors import Denied
from servers.router.wrappers.passing import PassingRouter


class GuardedRouter(PassingRouter):
    """`variables`: those that files name when it is asked."""

    def __init__(self, router: Router, variables: Callable[[], Collection[str]]) -> None:
        super().__init__(router)
        self._variables = variables

    async def complete(self, request: ChatRequest) -> Completion:
        self._check(request.candidates)
        return await super().complete(request)

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        self._check(request.candidates)
        async with aclosing(super().stream(request)) as steps:
            async for step in steps:
                yield step

    async def embed(self, request: EmbedRequest) -> Embeddings:
        self._check(request.candidates)
        return await super().embed(request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        self._check(request.candidates)
        return await super().rerank(request)

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        self._check([request.candidate])
        return await super().count_tokens(request)

    def _check(self, candidates: Sequence[ModelRef]) -> None:
        for ref in candidates:
            if ref.api_key_env and ref.api_key_env not in self._variables():
                raise Denied(
                    f"the variable {ref.api_key_env!r} may not be used as a key: name it in "
                    "providers.yaml, or name a provider that has a key",
                    reason="VARIABLE_DENIED",
                    variable=ref.api_key_env,
                )
