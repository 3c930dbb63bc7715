"""Ends a streamed text before a stop string, for models that may not do so themselves."""

from collections.abc import Sequence


class Stops:
    """Takes a text piece by piece. What may be the beginning of a stop string is held back."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(filter(None, stops))
        self._held = ""
        self.met = False

    def take(self, piece: str) -> str:
        """What may be shown now."""
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:  # the one that is complete first, as if the text came letter by letter
            self.met, self._held = True, ""
            return text[: min(found)[1]]
        shown = len(text) - self._begun(text)
        self._held = text[shown:]
        return text[:shown]

    def rest(self) -> str:
        """What was held back, once nothing more is to come."""
        held, self._held = self._held, ""
        return held

    def _begun(self, text: str) -> int:
        """As many of the last characters may be the beginning of a stop string."""
        longest = max(map(len, self._stops), default=1) - 1
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0
