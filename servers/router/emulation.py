"""Providers for models that lack something: tool calls made of constrained JSON, JSON Schemas
told in words. Each satisfies `ports.Provider` by wrapping one."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, replace

import orjson

from servers.domain.chat import (
    Completion,
    FinishReason,
    ReasoningPiece,
    Role,
    Step,
    ToolCall,
)
from servers.domain.models import Capabilities
from servers.router import retelling
from servers.router.gathering import Gathering, answer, steps_of
from servers.router.ports import Ask, Provider

_FORM = """\
Answer with one JSON object and nothing else. It must fit this JSON Schema:
%s"""


def fitting(provider: Provider, able: Capabilities, ask: Ask) -> Provider:
    """The provider for a model that can do what `able` says: the one it is, or one that asks
    for what the model lacks in another way. Give the same `ask` to it."""
    emulated = able.tools is False and (bool(ask.tools) or _tells_of_tools(ask))
    formed = ask.output_schema is not None or (emulated and bool(ask.tools))
    if formed and able.json_schema is False:
        provider = Instructed(provider)
    return Emulating(provider) if emulated else provider


@dataclass(frozen=True, slots=True)
class Instructed:
    """Tells the model the schema in words, and sends none."""

    provider: Provider

    @property
    def endpoint(self) -> str:
        return self.provider.endpoint

    async def complete(self, ask: Ask) -> Completion:
        return await self.provider.complete(_in_words(ask))

    def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        return self.provider.stream(_in_words(ask))

    async def health(self, api_key: str) -> None:
        await self.provider.health(api_key)

    def capabilities(self, model: str) -> Capabilities:
        return self.provider.capabilities(model)


@dataclass(frozen=True, slots=True)
class Emulating:
    """Offers tools as JSON that the model is held to. Calls and results that are in the
    conversation already are retold as text."""

    provider: Provider

    @property
    def endpoint(self) -> str:
        return self.provider.endpoint

    async def complete(self, ask: Ask) -> Completion:
        said = await self.provider.complete(_emulated(ask))
        return _understood(said, ask) if ask.tools else said

    async def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        """Whether a text is a call is known at its end: until then it is held back."""
        heard = Gathering()
        async with aclosing(self.provider.stream(_emulated(ask))) as steps:
            async for step in steps:
                heard.take(step)
                if not ask.tools or isinstance(step, ReasoningPiece):
                    yield step
        if not ask.tools:
            return
        for step in steps_of(_understood(heard.whole(), ask)):
            if not isinstance(step, ReasoningPiece):
                yield step

    async def health(self, api_key: str) -> None:
        await self.provider.health(api_key)

    def capabilities(self, model: str) -> Capabilities:
        return self.provider.capabilities(model)


def _tells_of_tools(ask: Ask) -> bool:
    return any(said.tool_calls or said.role is Role.TOOL for said in ask.messages)


def _in_words(ask: Ask) -> Ask:
    if ask.output_schema is None:
        return ask
    form = _FORM % orjson.dumps(ask.output_schema).decode()
    return replace(ask, messages=retelling.instructed(ask.messages, form), output_schema=None)


def _emulated(ask: Ask) -> Ask:
    messages = tuple(retelling.retold(ask.messages))
    if not ask.tools:
        return replace(ask, messages=messages)
    return replace(
        ask,
        messages=retelling.instructed(messages, retelling.rules(ask.tools, ask.output_schema)),
        tools=(),
        output_schema=retelling.schema(ask.tools, ask.output_schema),
    )


def _understood(said: Completion, ask: Ask) -> Completion:
    meant = retelling.understood(said.message.text, retelling.next_id(ask.messages))
    finish = replace(said.finish, emulated=True)
    if isinstance(meant, ToolCall):
        finish = replace(finish, tool_calls=(meant,), reason=FinishReason.TOOL_CALLS)
        return answer("", said.message.reasoning, finish)
    return answer(meant, said.message.reasoning, finish)
