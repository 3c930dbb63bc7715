"""One caller's texts on their way through a model, and which parts go through it together."""

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from servers.router.adapters.encoders.tasks import Piece, Task

_SLICE = 64  # texts made into pieces at once: a big request must not keep the others waiting
_PADDING = 4  # tokens of padding that are cheaper than another run


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A piece, and where it belongs."""

    job: "Job"
    text: int
    place: int  # among the pieces of the text
    piece: Piece


@dataclass(slots=True)
class _Text:
    """A text under way."""

    pieces: Sequence[Piece]
    kept: list[Any]
    missing: int


class Job:
    """`future` and `dropped` are the event loop's, everything else the thread's."""

    def __init__(self, task: Task[Any, Any], future: asyncio.Future[Any]) -> None:
        self.task, self.future = task, future
        self.dropped = False  # nobody waits any more
        self.tokens = 0
        sizes = task.sizes
        self.results: list[Any] = [None] * len(sizes)
        self._uncut = deque(sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True))
        self._ready: deque[Part] = deque()
        self._open: dict[int, _Text] = {}

    @property
    def done(self) -> bool:
        return not (self._uncut or self._open)

    def next(self, engine: Any) -> Part | None:
        """The longest part that was not handed out yet. Raises InvalidInput."""
        if not self._ready and self._uncut:
            self._cut(engine)
        return self._ready.popleft() if self._ready else None

    def take(self, part: Part, found: Any) -> None:
        """What the model made of a part."""
        text = self._open[part.text]
        text.kept[part.place] = self.task.keep(part.piece, found)
        text.missing -= 1
        if not text.missing:
            self.results[part.text] = self.task.join(text.pieces, text.kept)
            del self._open[part.text]

    def _cut(self, engine: Any) -> None:
        texts = [self._uncut.popleft() for _ in range(min(_SLICE, len(self._uncut)))]
        parts = []
        for text, pieces in zip(texts, self.task.cut(engine, texts), strict=True):
            self._open[text] = _Text(pieces, [None] * len(pieces), len(pieces))
            parts += [Part(self, text, place, piece) for place, piece in enumerate(pieces)]
        self.tokens += sum(part.piece.tokens for part in parts)
        self._ready.extend(sorted(parts, key=_shortness))


def alike(parts: Sequence[Part]) -> list[list[Part]]:
    """Groups of about the same length, since shorter ones cost as much as the longest of them.

    The cheapest group comes first: a short question need not wait for long documents.
    """
    groups: list[list[Part]] = []
    longest = 0
    for part in sorted(parts, key=_shortness):
        if not groups or longest - part.piece.tokens > max(_PADDING, longest // 8):
            groups.append([])
            longest = part.piece.tokens
        groups[-1].append(part)
    return sorted(groups, key=lambda group: len(group) * group[0].piece.tokens)


def _shortness(part: Part) -> int:
    return -part.piece.tokens
