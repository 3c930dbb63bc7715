"""Keeps what a model is shown within its context window, with room for the reply.

The usual call costs nothing: tokens are counted only where the number of bytes says that
there may be too many. Nothing of it is on record, and need not be: a reply on record is not
asked for again, and the messages before it are made anew as they were.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import orjson

from servers.agents.runs.cutting import Cutting
from servers.domain.chat import ChatRequest, Message, ModelRef
from servers.domain.embeddings import CountRequest
from servers.domain.models import ModelInfo
from servers.domain.services import Router
from servers.kernel.errors import AstromeshError, InvalidInput

_BYTES_PER_TOKEN = 2  # hardly any text has more tokens than this makes of it
_PER_MESSAGE = 8  # tokens besides its text
_PICTURE = 1500  # tokens of a large one
_SMALL = 1500  # tokens that every window is assumed to have room for, if it isn't declared
_KNOWN_FOR = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class _Window:
    ref: ModelRef
    tokens: int

    @property
    def room(self) -> int:
        """For the prompt. The reply gets what it may have, else a fourth; half at most."""
        wanted = self.ref.sampling.max_tokens or self.tokens // 4
        return self.tokens - min(wanted, self.tokens // 2)


class Fitting:
    """One for the whole process. `now` is any clock that counts seconds."""

    def __init__(self, router: Router, now: Callable[[], float]) -> None:
        self._router = router
        self._now = now
        self._models: Sequence[ModelInfo] = ()
        self._asked_at: float | None = None

    async def fitted(self, request: ChatRequest) -> tuple[ChatRequest, str]:
        """The request as all of its models can take it, and what was left out.

        A model that could not even take the question is not asked, as long as there is
        another. Raises InvalidInput (CONTEXT_TOO_LONG) where there is none.
        """
        bound = _bound(request)
        windows = await self._windows(request.candidates, bound)
        narrow = sorted({each.room: each for each in windows}.values(), key=lambda each: each.room)
        passed_over: set[int] = set()
        for window in narrow:
            if bound <= window.room:
                break
            messages, left_out = await self._cut(request, window)
            if messages is not None:
                request = replace(request, messages=messages)
                return _without(request, windows, passed_over), left_out
            passed_over.add(window.room)
        request = _without(request, windows, passed_over)
        if not request.candidates:
            raise _too_long(narrow[-1])
        return request, ""

    async def _cut(
        self, request: ChatRequest, window: _Window
    ) -> tuple[tuple[Message, ...] | None, str]:
        """None: it can't be made short enough."""
        size = max(1, _bytes(request))
        tokens = await self._count(request, window.ref)
        cutting = Cutting(request.messages, max(tokens, 1) / size)
        messages, slack = request.messages, 8
        while tokens > window.room:
            if not cutting.spare(tokens - window.room + slack):
                return None, ""
            messages, slack = cutting.result(), slack * 2
            tokens = await self._count(replace(request, messages=messages), window.ref)
        return messages, cutting.told

    async def _count(self, request: ChatRequest, ref: ModelRef) -> int:
        """Not to be able to count is no reason to fail: the provider will say what it can't."""
        try:
            counted = await self._router.count_tokens(
                CountRequest(ref, request.messages, request.tools)
            )
        except AstromeshError:
            return 0
        return counted.tokens

    async def _windows(self, refs: Sequence[ModelRef], bound: int) -> list[_Window]:
        """Of those candidates whose window is known."""
        silent = [ref for ref in refs if ref.context_window is None]
        models = await self._known() if silent and bound > _SMALL else ()
        found = []
        for ref in refs:
            tokens = ref.context_window or _declared(ref, models)
            if tokens is not None:
                found.append(_Window(ref, tokens))
        return found

    async def _known(self) -> Sequence[ModelInfo]:
        if self._asked_at is None or self._now() - self._asked_at > _KNOWN_FOR:
            with suppress(AstromeshError):  # then with what was known before
                self._models = await self._router.models()
            self._asked_at = self._now()
        return self._models


def _declared(ref: ModelRef, models: Sequence[ModelInfo]) -> int | None:
    of = [each for each in models if each.provider == ref.provider]
    named = [each for each in of if each.model == ref.model or (not ref.model and len(of) == 1)]
    return named[0].capabilities.context_window if named else None


def _without(request: ChatRequest, windows: list[_Window], rooms: set[int]) -> ChatRequest:
    if not rooms:
        return request
    gone = [each.ref for each in windows if each.room in rooms]
    candidates = tuple(ref for ref in request.candidates if ref not in gone)
    return replace(request, candidates=candidates)


def _bound(request: ChatRequest) -> int:
    """Hardly more tokens than this."""
    pictures = sum(len(m.parts) - bool(m.text) for m in request.messages if len(m.parts) > 1)
    frame = _PER_MESSAGE * len(request.messages) + _PICTURE * pictures
    return _bytes(request) // _BYTES_PER_TOKEN + frame


def _bytes(request: ChatRequest) -> int:
    texts = [m.text for m in request.messages]
    texts += [call.name + call.arguments for m in request.messages for call in m.tool_calls]
    tools = sum(len(orjson.dumps(tool.parameters)) for tool in request.tools)
    texts += [tool.name + tool.description for tool in request.tools]
    return tools + sum(len(text.encode(errors="replace")) for text in texts)


def _too_long(widest: _Window) -> InvalidInput:
    ref = widest.ref
    return InvalidInput(
        f"the question is too long for {ref.provider}/{ref.model}: of its context window of "
        f"{widest.tokens} tokens the prompt may have {widest.room}, and there is nothing left "
        "that could be left out",
        reason="CONTEXT_TOO_LONG",
        provider=ref.provider,
        model=ref.model,
    )
