"""Chooses who answers. Satisfies `servers.domain.services.Router`."""

import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from math import inf
from time import monotonic

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
from servers.kernel.errors import InvalidInput, NotFound
from servers.router.attempts.trying import Trying
from servers.router.attempts.untracked import Alone, NoTokenizers, Untracked
from servers.router.chats.chats import Chats
from servers.router.kinds import check_strategy
from servers.router.lanes.lanes import Lanes, breaker_info
from servers.router.ports import (
    Board,
    BreakerKey,
    Providers,
    RouterSettings,
    Spending,
    Tokenizers,
)
from servers.router.routing import health, inventory
from servers.router.routing.candidates import Candidates
from servers.router.routing.prices import PriceList
from servers.router.texts.counts import Counts
from servers.router.texts.passages import Passages


class ModelRouter:
    """Everything that is asked of models goes through here, and leaves its traces: latencies,
    breakers and limits are shared by all that this process asks."""

    def __init__(
        self,
        settings: RouterSettings,
        providers: Providers,
        *,
        env: Mapping[str, str],
        prices: PriceList | None = None,
        spending: Spending | None = None,
        tokenizers: Tokenizers | None = None,
        board: Board | None = None,
        now: Callable[[], float] = monotonic,
        random: Callable[[], float] = random.random,
    ) -> None:
        check_strategy(settings.default_strategy)
        self._settings, self._providers, self._env = settings, providers, env
        self._prices = prices or PriceList()
        self._spending = spending or Untracked()
        self._lanes = Lanes(settings.failure_threshold, settings.recovery_timeout, now)
        candidates = Candidates(settings, providers, self._lanes, self._prices)
        self._board = board or Alone()
        trying = Trying(self._spending, settings.retries, now, random, self._board)
        self._chats = Chats(settings, providers, env, candidates, trying)
        self._passages = Passages(providers, env, candidates, trying)
        self._counts = Counts(providers, env, candidates, tokenizers or NoTokenizers())

    async def complete(self, request: ChatRequest) -> Completion:
        return await self._chats.complete(request)

    def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        return self._chats.stream(request)

    async def embed(self, request: EmbedRequest) -> Embeddings:
        return await self._passages.embed(request)

    async def rerank(self, request: RerankRequest) -> Ranking:
        return await self._passages.rerank(request)

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        return await self._counts.count(request)

    async def models(self) -> Sequence[ModelInfo]:
        return inventory.models(self._settings, self._providers, self._prices)

    async def providers(self) -> Sequence[ProviderInfo]:
        return inventory.providers(self._settings, self._lanes)

    async def update_breaker(
        self, provider: str, model: str, state: BreakerState
    ) -> Sequence[BreakerInfo]:
        if state is BreakerState.HALF_OPEN:
            raise InvalidInput("a breaker can be opened or closed, not half opened")
        keys = inventory.breaker_keys(provider, model, self._settings, self._lanes)
        if not keys:
            raise NotFound(f"provider {provider!r} has no model {model!r}", provider=provider)
        for key in keys:
            breaker = self._lanes.lane(key).breaker
            if state is BreakerState.OPEN:
                breaker.force_open()
                self._board.opened(key, inf)
            else:
                breaker.reset()
                self._board.closed(key)
        return [breaker_info(key, self._lanes.lane(key).breaker) for key in keys]

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        return await self._spending.usage(query)

    async def budgets(self, tenant: str, name: str = "") -> Sequence[BudgetState]:
        return await self._spending.budgets(tenant, name)

    async def watch_health(self) -> None:
        """For ever: ask the providers that want it how they are. The mesh owns the task."""
        await health.watch(self._settings, self._providers, self._lanes, self._env)

    async def hear_replicas(self) -> None:
        """For ever: take over what other replicas find out. The mesh owns the task."""
        await self._board.listen(self._heard)

    def _heard(self, key: BreakerKey, seconds: float) -> None:
        breaker = self._lanes.lane(key).breaker
        if seconds == inf:
            breaker.force_open()
        elif seconds:
            breaker.open_for(seconds)
        else:
            breaker.reset()
