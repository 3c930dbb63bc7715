"""Chats: ranked candidates, tried until one answers, whole or piece by piece."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from servers.domain.chat import ChatRequest, Completion, Step
from servers.router.attempts.attempt import Attempt
from servers.router.attempts.trying import Trying, Work
from servers.router.chats.emulation import fitting
from servers.router.chats.gathering import Gathering
from servers.router.chats.race import Race
from servers.router.chats.speaking import Preparing, Voice, voice, whole
from servers.router.kinds import check_strategy
from servers.router.ports import Ask, Provider, Providers, RouterSettings
from servers.router.routing.candidates import Candidates, answer_limit
from servers.router.routing.counting import Prompt
from servers.router.routing.ranking import Ranking
from servers.router.routing.trail import Trail


@dataclass(frozen=True, slots=True)
class Chats:
    settings: RouterSettings
    providers: Providers
    env: Mapping[str, str]
    candidates: Candidates
    trying: Trying
    ranking: Ranking = field(default_factory=Ranking)

    async def complete(self, request: ChatRequest) -> Completion:
        if request.hedge:
            return await _gathered(self.stream(request))
        trail = Trail()
        async with aclosing(self._attempts(request, trail, streamed=False)) as attempts:
            async for attempt in attempts:
                if answer := await whole(attempt, self._asking(request)):
                    return answer
        raise trail.end()

    async def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        trail, answered = Trail(), False
        speak = self._raced if request.hedge else self._in_turn
        async with (
            aclosing(self._attempts(request, trail, streamed=True)) as attempts,
            aclosing(speak(request, attempts)) as steps,
        ):
            async for step in steps:
                answered = True
                yield step
        if not answered:
            raise trail.end()

    async def _in_turn(
        self, request: ChatRequest, attempts: AsyncGenerator[Attempt, None]
    ) -> Voice:
        async for attempt in attempts:
            spoke = False
            async with aclosing(self._voice(request, attempt)) as steps:
                async for step in steps:
                    spoke = True
                    yield step
            if spoke:
                return

    def _raced(self, request: ChatRequest, attempts: AsyncGenerator[Attempt, None]) -> Voice:
        speak = partial(self._voice, request)
        return Race(attempts, speak, self.settings.hedging).run()

    def _voice(self, request: ChatRequest, attempt: Attempt) -> Voice:
        first = self.candidates.target(request.candidates[0])
        return voice(attempt, self._asking(request), first)

    async def _attempts(
        self, request: ChatRequest, trail: Trail, streamed: bool
    ) -> AsyncGenerator[Attempt, None]:
        strategy = request.strategy or self.settings.default_strategy
        check_strategy(strategy)
        able = self.candidates.of(request, trail)
        ranked = self.ranking.rank(strategy, able, request, streamed)
        work = Work(
            "chat",
            request.account,
            Prompt.of(request).most,
            lambda candidate: answer_limit(request, candidate),
        )
        async with aclosing(self.trying.attempts(ranked, work, trail)) as attempts:
            async for attempt in attempts:
                if strategy == "round_robin":
                    self.ranking.attempted(able)
                yield attempt

    def _asking(self, request: ChatRequest) -> Preparing:
        def prepare(attempt: Attempt) -> tuple[Provider, Ask]:
            target = attempt.candidate.target
            ask = Ask(
                target.model,
                request.messages,
                request.tools,
                request.sampling.over(target.sampling),
                target.timeouts,
                target.credential(self.env),
                request.output_schema,
            )
            provider = self.providers.get(target.kind, target.endpoint, target.options)
            return fitting(provider, attempt.candidate.able, ask), ask

        return prepare


async def _gathered(steps: Voice) -> Completion:
    heard = Gathering()
    async with aclosing(steps):
        async for step in steps:
            heard.take(step)
    return heard.whole()
