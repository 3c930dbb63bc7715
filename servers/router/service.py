"""Chooses who answers. Satisfies `servers.domain.services.Router`."""

from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from time import monotonic

from servers.domain.chat import ChatRequest, Completion, Finish, ModelRef, Step, Usage
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
from servers.kernel.errors import InvalidInput, NotFound, NotReady
from servers.router import health, inventory, texts
from servers.router.attempt import Attempt, Trail
from servers.router.kinds import check_strategy, kind
from servers.router.lanes import Lanes, breaker_info
from servers.router.ports import (
    Ask,
    EmbedAsk,
    Provider,
    ProviderDown,
    Providers,
    RerankAsk,
    RouterSettings,
    Spending,
)
from servers.router.prices import PriceList, priced
from servers.router.targets import Needs, Target, combined, needs, resolve
from servers.router.untracked import Untracked


class ModelRouter:
    """Tries a request's candidates in order until one answers.

    There is no deadline of its own over all attempts: the caller's (a cancelled call, an
    expired grpc deadline) ends whatever attempt is running; each attempt has its provider's.
    """

    def __init__(
        self,
        settings: RouterSettings,
        providers: Providers,
        *,
        env: Mapping[str, str],
        prices: PriceList | None = None,
        spending: Spending | None = None,
        now: Callable[[], float] = monotonic,
    ) -> None:
        check_strategy(settings.default_strategy)
        self._settings = settings
        self._providers = providers
        self._env = env
        self._prices = prices or PriceList()
        self._spending = spending or Untracked()
        self._now = now
        self._resolved: OrderedDict[int, tuple[ModelRef, Target]] = OrderedDict()  # by id(ref)
        self._lanes = Lanes(settings.failure_threshold, settings.recovery_timeout, now)

    def check(self, ref: ModelRef) -> None:
        """Whether a candidate could be asked: for manifests. Raises InvalidInput."""
        resolve(ref, self._settings)

    async def complete(self, request: ChatRequest) -> Completion:
        trail = Trail()
        for attempt, provider, ask in self._attempts(request, trail):
            with attempt:
                answer = await provider.complete(ask)
                return replace(answer, finish=self._signed(answer.finish, attempt.target))
        raise trail.end()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        trail = Trail()
        for attempt, provider, ask in self._attempts(request, trail):
            finish: Finish | None = None
            with attempt:
                async with aclosing(provider.stream(ask)) as steps:
                    async for step in steps:
                        if type(step) is Finish:
                            finish = step
                            continue
                        attempt.spoke = True
                        yield step
                if finish is None:
                    raise ProviderDown("the answer ended without an end", reason="BAD_ANSWER")
            if finish:  # said only now, so that who stops listening here has not cut it off
                yield self._signed(finish, attempt.target)
                return
        raise trail.end()

    async def embed(self, request: EmbedRequest) -> Embeddings:
        texts.check_embed(request)
        trail = Trail()
        for attempt in self._text_attempts(request.candidates or _EMBEDDED, "embed", trail):
            target = attempt.target
            with attempt:
                ask = EmbedAsk(
                    target.model,
                    request.texts,
                    request.purpose,
                    request.dimensions,
                    target.timeouts,
                    target.credential(self._env),
                )
                adapter = self._providers.embedder(target.kind, target.endpoint, target.options)
                found = await adapter.embed(ask)
                vectors = texts.vectors_of(found, request, target)
                usage = self._priced(found.usage, target)
                return Embeddings(vectors, usage, target.provider, found.model or target.model)
        raise trail.end()

    async def rerank(self, request: RerankRequest) -> Ranking:
        texts.check_rerank(request)
        trail = Trail()
        for attempt in self._text_attempts(request.candidates or _EMBEDDED, "rerank", trail):
            target = attempt.target
            with attempt:
                ask = RerankAsk(
                    target.model,
                    request.query,
                    request.documents,
                    target.timeouts,
                    target.credential(self._env),
                )
                adapter = self._providers.reranker(target.kind, target.endpoint, target.options)
                found = await adapter.rerank(ask)
                ranked = texts.ranked_of(found, request, target)
                usage = self._priced(found.usage, target)
                return Ranking(ranked, usage, target.provider, found.model or target.model)
        raise trail.end()

    async def count_tokens(self, request: CountRequest) -> TokenCount:
        target = self._target(request.candidate)
        if "count" not in kind(target.kind).does:
            raise NotReady(f"provider {target.provider!r} counts no tokens", reason="MODEL_CANNOT")
        ask = Ask(
            target.model,
            request.messages,
            request.tools,
            timeouts=target.timeouts,
            api_key=target.credential(self._env),
        )
        adapter = self._providers.counter(target.kind, target.endpoint, target.options)
        tokens = await adapter.count_tokens(ask)
        return TokenCount(tokens, True, target.kind, target.provider, target.model)

    async def usage(self, query: UsageQuery) -> Sequence[UsageRow]:
        return await self._spending.usage(query)

    async def budgets(self, tenant: str, name: str = "") -> Sequence[BudgetState]:
        return await self._spending.budgets(tenant, name)

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
            breaker.force_open() if state is BreakerState.OPEN else breaker.reset()
        return [breaker_info(key, self._lanes.lane(key).breaker) for key in keys]

    async def watch_health(self) -> None:
        """For ever: ask the providers that want it how they are. The mesh owns the task."""
        await health.watch(self._settings, self._providers, self._lanes, self._env)

    def _attempts(
        self, request: ChatRequest, trail: Trail
    ) -> Iterator[tuple[Attempt, Provider, Ask]]:
        """Whom to try next, for as long as somebody asks. All names are checked first."""
        targets, wanted = self._targets(request), needs(request)
        for target in targets:
            provider = self._providers.get(target.kind, target.endpoint, target.options)
            if missing := self._missing(wanted, target, provider):
                trail.cannot(target, missing)
                continue
            ask = self._ask(request, target)
            lane = self._lanes.lane(target.key)
            if admission := lane.breaker.admit():
                yield Attempt(target, lane, admission, trail, self._now), provider, ask
            else:
                trail.shut(target, lane)

    def _text_attempts(
        self, candidates: Sequence[ModelRef], deed: str, trail: Trail
    ) -> Iterator[Attempt]:
        for target in [self._target(ref) for ref in candidates]:
            if deed not in kind(target.kind).does:
                trail.cannot(target, (f"way to {deed}",))
                continue
            lane = self._lanes.lane(target.key)
            if admission := lane.breaker.admit():
                yield Attempt(target, lane, admission, trail, self._now)
            else:
                trail.shut(target, lane)

    def _targets(self, request: ChatRequest) -> list[Target]:
        if not request.messages:
            raise InvalidInput("messages: there is no message to answer", reason="INVALID_REQUEST")
        if not request.candidates:
            raise InvalidInput("candidates: name at least one model", reason="INVALID_REQUEST")
        check_strategy(request.strategy)
        targets = [self._target(ref) for ref in request.candidates]
        return targets if self._settings.fallback_enabled else targets[:1]

    def _target(self, ref: ModelRef) -> Target:
        """As `resolve`, which is worked out once for the refs that an agent keeps using."""
        known = self._resolved.get(id(ref))
        if known is None or known[0] is not ref:
            known = self._resolved[id(ref)] = ref, resolve(ref, self._settings)
            if len(self._resolved) > _RESOLVED:
                self._resolved.popitem(last=False)
        return known[1]

    def _missing(self, wanted: Needs, target: Target, provider: Provider) -> tuple[str, ...]:
        if wanted == _NOTHING:
            return ()
        known = provider.capabilities(target.model)
        return wanted.missing(combined(target.declared.capabilities, known))

    def _ask(self, request: ChatRequest, target: Target) -> Ask:
        return Ask(
            target.model,
            request.messages,
            request.tools,
            request.sampling.over(target.sampling),
            target.timeouts,
            target.credential(self._env),
            request.output_schema,
        )

    def _signed(self, finish: Finish, target: Target) -> Finish:
        """With who answered, and what it cost."""
        return replace(
            finish,
            usage=self._priced(finish.usage, target),
            provider=target.provider,
            model=finish.model or target.model,
        )

    def _priced(self, usage: Usage, target: Target) -> Usage:
        price = target.declared.price or self._prices.price(
            target.kind, target.endpoint, target.model
        )
        return priced(price, usage)


_NOTHING = Needs()
_EMBEDDED = (ModelRef("onnx_embeddings"),)
_RESOLVED = 1000
