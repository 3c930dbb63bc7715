"""Earlier answers by what was asked: the last ones, bounded by number and by bytes."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeAlias

import orjson

from servers.domain.chat import ChatRequest, Completion

Key: TypeAlias = bytes

_OVERHEAD = 1024  # bytes of an answer besides its texts, roughly


@dataclass(frozen=True, slots=True)
class Kept:
    answer: Completion
    at: float
    size: int


@dataclass(slots=True)
class Answers:
    """The least recently used ones go when there is no room."""

    most: int = 10_000
    most_bytes: int = 64 * 2**20
    _by_key: OrderedDict[Key, Kept] = field(default_factory=OrderedDict, init=False)
    _bytes: int = field(default=0, init=False)

    def get(self, key: Key, since: float) -> Completion | None:
        """The answer, unless it was kept before `since`."""
        kept = self._by_key.get(key)
        if kept is None or kept.at < since:
            return None
        self._by_key.move_to_end(key)
        return kept.answer

    def keep(self, key: Key, answer: Completion, now: float) -> None:
        self._drop(key)
        kept = self._by_key[key] = Kept(answer, now, _size(answer))
        self._bytes += kept.size
        while len(self._by_key) > self.most or self._bytes > self.most_bytes:
            self._drop(next(iter(self._by_key)))

    def _drop(self, key: Key) -> None:
        if dropped := self._by_key.pop(key, None):
            self._bytes -= dropped.size


def key_of(request: ChatRequest) -> Key | None:
    """The same for requests that may share an answer; None for one that can't be told from
    others. Who asks matters by his tenant and his keys, which can't be read from it."""
    candidates = [
        (
            ref.provider,
            ref.model,
            ref.endpoint,
            ref.api_key,
            ref.api_key_env,
            ref.context_window,
            ref.sampling,
        )
        for ref in request.candidates
    ]
    asked = (
        request.account.tenant,
        request.messages,
        request.tools,
        request.sampling,
        request.output_schema,
        request.strategy,
        candidates,
    )
    try:
        written = orjson.dumps(asked, default=_plain, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # half a character, a number of more than 64 bits
        return None
    return sha256(written).digest()


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return sha256(value).hexdigest()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def _size(answer: Completion) -> int:
    said = answer.message
    texts = [said.text, said.reasoning, *(call.arguments for call in said.tool_calls)]
    return _OVERHEAD + sum(len(text.encode(errors="replace")) for text in texts)
