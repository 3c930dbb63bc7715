"""Answers that fit a JSON Schema, or an error: what a model says is checked, and repaired once.

The provider is asked for the schema in its own form below here. That is no promise: models
cut their answers, wrap them, or stand behind an API that knows no schemas.
"""

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson

from servers.domain.chat import ChatRequest, Completion, Json, ReasoningPiece, Speaker, Step
from servers.domain.services import Router
from servers.kernel.errors import InvalidInput, Violation
from servers.kernel.json_schema import JsonSchema, NotASchema
from servers.kernel.paths import dotted
from servers.router.chats.gathering import Gathering, steps_of
from servers.router.wrappers.passing import PassingRouter
from servers.router.wrappers.repair import Answering

_KEPT = 256  # schemas


class StructuredRouter(PassingRouter):
    """For requests with an `output_schema`; others pass as they are. Answers with tool calls
    do, too: they are no answers yet."""

    def __init__(self, router: Router) -> None:
        super().__init__(router)
        self._schemas: OrderedDict[bytes, JsonSchema] = OrderedDict()

    async def complete(self, request: ChatRequest) -> Completion:
        if request.output_schema is None:
            return await self._router.complete(request)
        work = Answering(self._schema(request.output_schema), request)
        while work.ask:
            work.heard(await self._router.complete(work.ask))
        assert work.answer
        return work.answer

    def stream(self, request: ChatRequest) -> AsyncGenerator[Step, None]:
        if request.output_schema is None:
            return self._router.stream(request)
        return self._held_back(request, request.output_schema)

    async def _held_back(self, request: ChatRequest, written: Json) -> AsyncGenerator[Step, None]:
        """Thoughts at once, text only when it is known to fit."""
        work = Answering(self._schema(written), request)
        while work.ask:
            heard = Gathering()
            async with aclosing(self._router.stream(work.ask)) as steps:
                async for step in steps:
                    heard.take(step)
                    if isinstance(step, Speaker | ReasoningPiece):
                        yield step
            work.heard(heard.whole())
        assert work.answer
        for step in steps_of(work.answer):
            if not isinstance(step, ReasoningPiece):  # was shown already
                yield step

    def _schema(self, written: Json) -> JsonSchema:
        """Checked once: agents ask with the same one again and again."""
        try:
            key = orjson.dumps(written, option=orjson.OPT_SORT_KEYS)
        except TypeError:
            return _checked(written)
        schema = self._schemas.get(key)
        if schema is None:
            schema = self._schemas[key] = _checked(written)
            if len(self._schemas) > _KEPT:
                self._schemas.popitem(last=False)
        return schema


def _checked(written: Json) -> JsonSchema:
    try:
        return JsonSchema(written)
    except NotASchema as faulty:
        field = dotted(("output_schema", *faulty.wrong.path))
        raise InvalidInput(
            f"{field}: {faulty.wrong.says}",
            reason="INVALID_REQUEST",
            violations=(Violation(field, faulty.wrong.says),),
        ) from None
