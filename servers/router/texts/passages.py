"""Embeddings and rankings: candidates in order, tried until one answers."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from servers.domain.caller import Account
from servers.domain.chat import ModelRef
from servers.domain.embeddings import Embeddings, EmbedRequest, Ranking, RerankRequest
from servers.router.attempts.attempt import Attempt
from servers.router.attempts.trying import Trying, Work
from servers.router.ports import EmbedAsk, Providers, RerankAsk
from servers.router.routing.candidates import Candidates
from servers.router.routing.trail import Trail
from servers.router.texts import texts

_EMBEDDED = "onnx_embeddings"
_BYTES = 2  # of a token, at least, for what is set aside


@dataclass(frozen=True, slots=True)
class Passages:
    providers: Providers
    env: Mapping[str, str]
    candidates: Candidates
    trying: Trying

    async def embed(self, request: EmbedRequest) -> Embeddings:
        texts.check_embed(request)
        trail = Trail()
        read = _tokens(request.texts)
        attempts = self._attempts("embed", request.candidates, request.account, read, trail)
        async with aclosing(attempts):
            async for attempt in attempts:
                if answer := await self._embedded(request, attempt):
                    return answer
        raise trail.end()

    async def rerank(self, request: RerankRequest) -> Ranking:
        texts.check_rerank(request)
        trail = Trail()
        # A cross-encoder reads the query with each document.
        read = _tokens((request.query,)) * len(request.documents) + _tokens(request.documents)
        attempts = self._attempts("rerank", request.candidates, request.account, read, trail)
        async with aclosing(attempts):
            async for attempt in attempts:
                if answer := await self._ranked(request, attempt):
                    return answer
        raise trail.end()

    async def _embedded(self, request: EmbedRequest, attempt: Attempt) -> Embeddings | None:
        target = attempt.candidate.target
        async with attempt:
            adapter = self.providers.embedder(target.kind, target.endpoint, target.options)
            ask = EmbedAsk(
                target.model,
                request.texts,
                request.purpose,
                request.dimensions,
                target.timeouts,
                target.credential(self.env),
            )
            found = await adapter.embed(ask)
            vectors = texts.vectors_of(found, request, target)
            used, model = attempt.answered(found.usage), found.model or target.model
            return Embeddings(vectors, used, target.provider, model)
        return None

    async def _ranked(self, request: RerankRequest, attempt: Attempt) -> Ranking | None:
        target = attempt.candidate.target
        async with attempt:
            adapter = self.providers.reranker(target.kind, target.endpoint, target.options)
            ask = RerankAsk(
                target.model,
                request.query,
                request.documents,
                target.timeouts,
                target.credential(self.env),
            )
            found = await adapter.rerank(ask)
            ranked = texts.ranked_of(found, request, target)
            used, model = attempt.answered(found.usage), found.model or target.model
            return Ranking(ranked, used, target.provider, model)
        return None

    def _attempts(
        self,
        deed: str,
        refs: Sequence[ModelRef],
        account: Account,
        read: int,
        trail: Trail,
    ) -> AsyncGenerator[Attempt, None]:
        # The model that is in the mesh answers where nobody is named.
        targets = self.candidates.targets(refs or self.candidates.any_of(_EMBEDDED), deed)
        work = Work(deed, account, read, lambda _: 0)
        candidates = [self.candidates.candidate(target) for target in targets]
        return self.trying.attempts(candidates, work, trail)


def _tokens(texts: Sequence[str]) -> int:
    """What they hardly have more of."""
    return sum(len(text.encode(errors="replace")) for text in texts) // _BYTES + len(texts)
