"""Names in a budget's `match`: as they are, or with `*` for any text."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Pattern:
    """Matching takes time in proportion to the text: names come from callers."""

    text: str
    _parts: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_parts", tuple(self.text.split("*")))

    @property
    def exact(self) -> bool:
        return len(self._parts) == 1

    def matches(self, name: str) -> bool:
        first, *middle = self._parts
        if not middle:
            return name == first
        last = middle.pop()
        if len(name) < len(first) + len(last):
            return False
        if not (name.startswith(first) and name.endswith(last)):
            return False
        place, end = len(first), len(name) - len(last)
        for part in middle:
            place = name.find(part, place, end)
            if place < 0:
                return False
            place += len(part)
        return True
