"""Keeps what happens over and over from filling the log."""

from collections.abc import Callable, Hashable
from time import monotonic
from typing import Final

_MOST: Final = 1000  # things that are told apart


class Sparing:
    """The same thing is told of once in `every` seconds."""

    def __init__(self, now: Callable[[], float] = monotonic, every: float = 60.0) -> None:
        self._now, self._every = now, every
        self._told: dict[Hashable, tuple[float, int]] = {}  # when, and how often it happened since

    def times(self, thing: Hashable) -> int:
        """It happened: how often since it was told of last, or 0 where it is too soon to tell."""
        now = self._now()
        when, missed = self._told.get(thing, (now - self._every, 0))
        if now - when < self._every:
            self._told[thing] = when, missed + 1
            return 0
        self._told.pop(thing, None)  # to the end
        self._told[thing] = now, 0
        if len(self._told) > _MOST:
            del self._told[next(iter(self._told))]
        return missed + 1
