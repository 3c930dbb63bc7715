"""Providers for models that lack something: tool calls made of constrained JSON, JSON Schemas
told in words. Each satisfies `ports.Provider` by wrapping one."""

from collections.abc import AsyncGenerator, Callable
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
from servers.router.chats import retelling
from servers.router.chats.gathering import Gathering, answer, steps_of
from servers.router.ports import Ask, Provider

_FORM = """\
Answer with one JSON object and nothing else. It must fit this JSON Schema:
%s"""
_WITH_TOOLS = "Call tools as you need them. When you need none any more:\n"


def fitting(provider: Provider, able: Capabilities, ask: Ask) -> Provider:
    """The provider for a model that can do what `able` says: the one it is, or one that asks
    for what the model lacks in another way. Give the same `ask` to it."""
    emulated = able.tools is False and (bool(ask.tools) or _tells_of_tools(ask))
    formed = ask.output_schema is not None or (emulated and bool(ask.tools))
    if formed and able.json_schema is False:
        provider = Instructed(provider, _in_words)
    elif ask.output_schema is not None and ask.tools and not emulated:
        provider = Instructed(provider, _reminded)
    return Emulating(provider) if emulated else provider


@dataclass(frozen=True, slots=True)
class Instructed:
    """Tells the model in words what its answer is to be."""

    provider: Provider
    tell: Callable[[Ask], Ask]

    @property
    def endpoint(self) -> str:
        return self.provider.endpoint

    async def complete(self, ask: Ask) -> Completion:
        return await self.provider.complete(self.tell(ask))

    def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        return self.provider.stream(self.tell(ask))

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
    """For a model that takes no schema."""
    return replace(_reminded(ask), output_schema=None)


def _reminded(ask: Ask) -> Ask:
    """For a model with tools: most servers don't take a schema beside them, since one that is
    held to it could call none."""
    form = _FORM % orjson.dumps(ask.output_schema).decode()
    if ask.tools:
        form = _WITH_TOOLS + form
    return replace(ask, messages=retelling.instructed(ask.messages, form))


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
