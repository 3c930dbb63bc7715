"""Conversations that are computed together, in batches that they join and leave at any token.

For folders that were built with `use_paged_attention`: the package's own engine keeps their
caches in pages, and works on no others like this.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import onnxruntime_genai as og

from servers.router.adapters.genai.work import Event, Voice, Work

_EVENTS = 64  # that are taken at once
_SETTERS = {
    "do_sample": "set_do_sample",
    "temperature": "set_temperature",
    "top_p": "set_top_p",
    "top_k": "set_top_k",
    "random_seed": "set_seed",
    "repetition_penalty": "set_repetition_penalty",
    "no_repeat_ngram_size": "set_no_repeat_ngram_size",
    "min_tokens": "set_min_generated_tokens",
}
_FULL = og.FinishReason.MAX_GENERATED_TOKENS, og.FinishReason.MAX_SESSION_TOKENS


@dataclass(slots=True)
class Member:
    request: Any
    turn: int
    voice: Voice


class Batching:
    def __init__(self, model: Any) -> None:
        self._engine = og.Engine(model)
        self._events = self._engine.create_event_buffer(_EVENTS)
        self._members: dict[int, Member] = {}

    @property
    def busy(self) -> bool:
        return bool(self._members)

    def begin(self, number: int, work: Work, voice: Voice) -> None:
        request = self._engine.create_request()
        options = og.TurnOptions(request)
        options.set_max_generated_tokens(work.limit)
        for name, value in work.search.items():
            getattr(options, _SETTERS[name])(value)
        if work.schema:
            options.set_guidance("json_schema", work.schema)
        self._members[number] = Member(request, request.begin_turn(work.prompt, options), voice)

    def guides(self) -> bool:
        options = og.TurnOptions(self._engine.create_request())
        try:
            options.set_guidance("json_schema", '{"type": "object"}')
        except RuntimeError:
            return False
        return True

    def cancel(self, number: int) -> None:
        if member := self._members.pop(number, None):
            member.request.close()

    def advance(self) -> Iterator[tuple[int, Event]]:
        told = list(self._engine.run(self._events) or ())
        blocked = told and all(_has(each, og.EngineEventFlags.CAPACITY_BLOCKED) for each in told)
        if blocked:
            yield self._make_room()
        for each in told:
            if (number := self._number(each.request)) is not None:
                yield from self._heard(number, each)

    def _heard(self, number: int, told: Any) -> Iterator[tuple[int, Event]]:
        member = self._members[number]
        if _has(told, og.EngineEventFlags.TOKEN):
            yield number, member.voice.say(told.token)
        if _has(told, og.EngineEventFlags.TURN_FINISHED):
            self.cancel(number)
            yield number, _end(member.voice, told)

    def _make_room(self) -> tuple[int, Event]:
        """All wait for room in the cache, which only the end of one of them can give."""
        spoke = [number for number, member in self._members.items() if member.voice.tokens]
        number = max(spoke or self._members)
        self.cancel(number)
        return number, {"failed": "the cache of the folder's engine has no room for so many"}

    def _number(self, request: Any) -> int | None:
        found = (n for n, member in self._members.items() if member.request is request)
        return next(found, None)


def _has(told: Any, flag: Any) -> bool:
    return bool(told.flags.value & flag.value)


def _end(voice: Voice, told: Any) -> Event:
    cached = int(told.usage.cached_prompt_tokens)
    if told.finish_reason == og.FinishReason.EOS:
        voice.tokens += 1  # the last one, which the engine keeps to itself
        return voice.end("stop", cached)
    if told.finish_reason in _FULL:
        return voice.end("length", cached)
    return {"failed": f"the engine gave up: {told.error_code.name}"}
