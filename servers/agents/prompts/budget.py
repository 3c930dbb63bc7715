"""What one rendering may cost: steps, time and text. Templates are written by strangers."""

from collections.abc import Callable, Iterable, Iterator
from time import monotonic
from typing import Any

from jinja2.exceptions import SecurityError

MAX_STEPS = 20_000  # turns of loops and calls of functions
MAX_SECONDS = 0.25
MAX_TEXT = 256 * 1024  # characters, of the result and of every value on the way
_LOOK_AT_CLOCK_EVERY = 64  # steps
_MAX_NUMBER_BITS = 256


class Budget:
    """Counts down during one rendering."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self._now = now
        self._ends = now() + MAX_SECONDS
        self._steps = 0

    def step(self) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise SecurityError(f"it takes more than {MAX_STEPS} steps")
        if self._steps % _LOOK_AT_CLOCK_EVERY == 0 and self._now() > self._ends:
            raise SecurityError(f"it takes longer than {MAX_SECONDS} s")

    def counted(self, items: Iterable[Any]) -> Iterator[Any]:
        for item in items:
            self.step()
            yield item


def bounded(value: Any) -> Any:
    """`value`, unless it is larger than any part of a prompt has reason to be."""
    if isinstance(value, int):
        if value.bit_length() > _MAX_NUMBER_BITS:
            raise SecurityError("a number is too large")
    elif _size(value, MAX_TEXT) > MAX_TEXT:
        raise SecurityError(f"a value is longer than {MAX_TEXT} characters")
    return value


def _size(value: Any, enough: int) -> int:
    """About how long `value` is when written out; stops counting beyond `enough`."""
    match value:
        case str() | bytes():
            return len(value)
        case list() | tuple():
            parts: Iterable[Any] = value
        case dict():
            parts = (each for item in value.items() for each in item)
        case _:
            return 1
    size = 1
    for part in parts:
        size += _size(part, enough - size)
        if size > enough:
            break
    return size


def concatenated(pieces: Iterable[str]) -> str:
    """``"".join`` that gives up in time."""
    kept: list[str] = []
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > MAX_TEXT:
            raise SecurityError(f"the text is longer than {MAX_TEXT} characters")
        kept.append(piece)
    return "".join(kept)


def multiplied(left: Any, right: Any) -> Any:
    for many, times in ((left, right), (right, left)):
        sized = isinstance(many, str | list | tuple | bytes) and isinstance(times, int)
        if sized and len(many) * times > MAX_TEXT:
            raise SecurityError(f"a value is longer than {MAX_TEXT} characters")
    return left * right


def powered(left: Any, right: Any) -> Any:
    whole = isinstance(left, int) and isinstance(right, int) and right > 0
    if whole and left.bit_length() * right > _MAX_NUMBER_BITS:
        raise SecurityError("a number is too large")
    return left**right
