"""The numbers of `pii`: digits in groups, and the groups that phones are written in."""

from typing import NamedTuple

from servers.kernel.native.pii_letters import DIGITS, PLAIN


class Group(NamedTuple):
    """A run of digits in a number that may be written in several."""

    at: int
    to: int
    digits: int  # of the number up to here
    gap: int  # characters between it and the one before
    separator: str  # the first of them

    @property
    def size(self) -> int:
        return self.to - self.at

    @property
    def plain(self) -> bool:
        return self.gap == 1 and self.separator in PLAIN


class Shape(NamedTuple):
    sizes: tuple[int, ...]
    first: str  # digits that it may begin with
    dots: bool = False


SHAPES = (
    Shape((3, 3, 4), "0123456789", dots=True),
    Shape((1, 3, 3, 4), "1", dots=True),
    Shape((3, 7), "23456789"),
    Shape((2, 4, 4), "123456789"),
    Shape((2, 5, 4), "123456789"),
    Shape((3, 4, 4), "1"),
    Shape((5, 5), "6789"),
    Shape((3, 3, 3), "6789"),
)


def passes_luhn(number: str) -> bool:
    digits = [int(char) for char in reversed(number) if char in DIGITS]
    doubled = [2 * digit - 9 * (digit > 4) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0
