"""One candidate's answer, in one piece or as a stream, signed with who gave it."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeAlias

from servers.domain.chat import Completion, Finish, Speaker, Step
from servers.kernel import telemetry
from servers.router.attempts.attempt import Attempt
from servers.router.chats.gathering import steps_of
from servers.router.ports import Ask, Provider, ProviderDown
from servers.router.routing.targets import Target

Voice: TypeAlias = AsyncGenerator[Step, None]
# Whom to ask, and what. Called inside the attempt, which is undone where there is no key.
Preparing: TypeAlias = Callable[[Attempt], tuple[Provider, Ask]]


async def whole(attempt: Attempt, prepare: Preparing) -> Completion | None:
    """The answer in one piece; None where the candidate failed and another may be asked."""
    async with attempt:
        provider, ask = prepare(attempt)
        with telemetry.detached_span("attempt " + ask.model, _span(attempt, ask)) as span:
            answer = await provider.complete(ask)
            finish = signed(answer.finish, attempt)
            _describe(span, finish)
        return Completion(answer.message, finish)
    return None


async def voice(attempt: Attempt, prepare: Preparing, expected: Target) -> Voice:
    """Pieces and one Finish; nothing at all where the candidate failed before it spoke.

    Says first who speaks where it is not the one that the caller expects.
    """
    finish: Finish | None = None
    async with attempt:
        provider, ask = prepare(attempt)
        with telemetry.detached_span("attempt " + ask.model, _span(attempt, ask)) as span:
            async with aclosing(_steps(attempt, provider, ask)) as steps:
                async for step in steps:
                    if type(step) is Finish:
                        finish = signed(step, attempt)
                        continue
                    attempt.heard()
                    if attempt.pieces == 1 and (speaker := _another(attempt, expected)):
                        yield speaker
                    yield step
            if finish is None:
                raise ProviderDown("the answer ended without an end", reason="BAD_ANSWER")
            _describe(span, finish)
    if finish:  # said only now, so that who stops listening here has not cut it off
        yield finish


def signed(finish: Finish, attempt: Attempt) -> Finish:
    """With who answered, and what it cost."""
    target = attempt.candidate.target
    return Finish(
        finish.reason,
        finish.tool_calls,
        attempt.answered(finish.usage),
        target.provider,
        finish.model or target.model,
        finish.besides,
        finish.emulated,
        finish.cached,
        finish.notices + attempt.notices,
    )


def _another(attempt: Attempt, expected: Target) -> Speaker | None:
    target = attempt.candidate.target
    if (target.provider, target.model) == (expected.provider, expected.model):
        return None
    return Speaker(target.provider, target.model)


def _steps(attempt: Attempt, provider: Provider, ask: Ask) -> Voice:
    return provider.stream(ask) if attempt.candidate.able.streaming else _at_once(provider, ask)


async def _at_once(provider: Provider, ask: Ask) -> Voice:
    """The stream of a model that can't stream."""
    for step in steps_of(await provider.complete(ask)):
        yield step


def _span(attempt: Attempt, ask: Ask) -> dict[str, telemetry.Attribute]:
    if not telemetry.counting():
        return _NOTHING
    return {
        telemetry.OPERATION: "chat",
        telemetry.PROVIDER: attempt.candidate.target.provider,
        telemetry.MODEL: ask.model,
    }


def _describe(span: telemetry.Span, finish: Finish) -> None:
    if telemetry.counting():
        span.set_attribute(telemetry.ANSWERED_BY, finish.model)
        span.set_attribute(telemetry.FINISH_REASONS, [finish.reason.value])
        span.set_attribute(telemetry.INPUT_TOKENS, finish.usage.prompt_tokens)
        span.set_attribute(telemetry.OUTPUT_TOKENS, finish.usage.completion_tokens)
        if finish.usage.cost_usd is not None:
            span.set_attribute(telemetry.COST, finish.usage.cost_usd)


_NOTHING: dict[str, telemetry.Attribute] = {}
