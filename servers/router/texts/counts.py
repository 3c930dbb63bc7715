"""How many tokens a chat has for a model: by the best tokenizer that can be had."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from servers.domain.embeddings import CountRequest, TokenCount
from servers.kernel.errors import InvalidInput, Unavailable
from servers.router.kinds import kind
from servers.router.ports import Ask, Providers, Tokenizers
from servers.router.routing.candidates import Candidates, check_does
from servers.router.routing.counting import Prompt
from servers.router.routing.targets import Target


@dataclass(frozen=True, slots=True)
class Counts:
    providers: Providers
    env: Mapping[str, str]
    candidates: Candidates
    tokenizers: Tokenizers

    async def count(self, request: CountRequest) -> TokenCount:
        if not request.messages:
            raise InvalidInput("messages: there is no message to count", reason="INVALID_REQUEST")
        target = self.candidates.target(request.candidate)
        check_does(target, "chat")
        tokens, exact, by = await self._count(request, target)
        return TokenCount(tokens, exact, by, target.provider, target.model)

    async def _count(self, request: CountRequest, target: Target) -> tuple[int, bool, str]:
        silent = ""
        if "count" in kind(target.kind).does:
            try:
                return await self._asked(request, target), True, target.provider
            except Unavailable as down:  # then an estimate is better than none
                silent = f"; {down.message}"
        prompt = Prompt(request.messages, request.tools)
        if tokenizer := await asyncio.to_thread(self.tokenizers.of, target.model):
            counted = await asyncio.to_thread(prompt.counted, tokenizer.count)
            return counted, prompt.plain, tokenizer.name
        return prompt.likely, False, f"4 bytes a token{silent}"

    async def _asked(self, request: CountRequest, target: Target) -> int:
        counter = self.providers.counter(target.kind, target.endpoint, target.options)
        return await counter.count_tokens(
            Ask(
                target.model,
                request.messages,
                request.tools,
                timeouts=target.timeouts,
                api_key=target.credential(self.env),
            )
        )
