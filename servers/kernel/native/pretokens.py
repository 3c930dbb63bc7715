"""Where the tokenizers of OpenAI cut a text before they look for tokens.

tiktoken has a regular expression for each; these are the same pieces.
native_cpp/include/astromesh/pretokens.hpp is this code in the same order.
"""

from collections.abc import Callable, Iterator

from servers.kernel.native.letter_kinds import BOTH, LINE, LOWER, MARK, NUMBER, SIGN, SPACE, UPPER

PATTERNS = ("o200k", "cl100k")
_LETTERS = (UPPER, LOWER, BOTH)
_SIGNS = (SIGN, MARK)
_BLANKS = (SPACE, LINE)
# What may stand in a word of o200k: first those, then these.
_UPPER = (UPPER, BOTH, MARK)
_LOWER = (LOWER, BOTH, MARK)
_CONTRACTIONS = {"s", "t", "d", "m", "\u017f"}  # the last is another small s
_LONG_CONTRACTIONS = {"ll", "ve", "re"}


def pieces(text: str, kinds: bytes, pattern: str) -> Iterator[str]:
    """All of the text, piece by piece."""
    cutter = _Pretokens(text, bytes(kinds[ord(c)] for c in text), pattern == "o200k")
    at = 0
    while at < len(text):
        end = cutter.end_of(at)
        yield text[at:end]
        at = end


class _Pretokens:
    def __init__(self, text: str, kinds: bytes, is_o200k: bool) -> None:
        self._text = text
        self._kinds = kinds
        self._is_o200k = is_o200k

    def end_of(self, at: int) -> int:
        """The end of the piece that begins at `at`."""
        first = self._kinds[at]
        word = self._o200k_word if self._is_o200k else self._cl100k_word
        if (end := word(at, first)) > at:
            return end
        if first == NUMBER:
            return min(self._run(at, (NUMBER,)), at + 3)
        if first in _SIGNS:
            return self._signs(at)
        if self._text[at] == " " and self._run(at + 1, _SIGNS) > at + 1:
            return self._signs(at + 1)
        return self._blanks(at)

    def _run(self, at: int, some: tuple[int, ...]) -> int:
        while at < len(self._text) and self._kinds[at] in some:
            at += 1
        return at

    def _cl100k_word(self, at: int, first: int) -> int:
        if (end := self._contraction(at)) > at:
            return end
        start = at + _may_lead(first)
        end = self._run(start, _LETTERS)
        return end if end > start else at

    def _o200k_word(self, at: int, first: int) -> int:
        start = at + _may_lead(first)
        starts = (start, at) if first == MARK else (start,)
        ways: tuple[Callable[[int], int], ...] = (
            self._ending_low,
            lambda start: self._run(start, _UPPER),
        )
        for way in ways:
            for begin in starts:
                if (end := way(begin)) > begin:
                    return self._contraction(end)
        return at

    def _ending_low(self, start: int) -> int:
        """Capitals, then at least one small letter. What is neither counts as either."""
        capitals = self._run(start, _UPPER)
        if (end := self._run(capitals, _LOWER)) > capitals:
            return end
        while capitals > start and self._kinds[capitals - 1] not in _LOWER:
            capitals -= 1
        return capitals

    def _contraction(self, at: int) -> int:
        """The end of an 's, 't, 'd, 'm, 'll, 've or 're at `at`; `at` where there is none."""
        if self._text[at : at + 1] != "'":
            return at
        following = self._text[at + 1 : at + 3]
        if _small(following[:1]) in _CONTRACTIONS:
            return at + 2
        return at + 3 if _small(following) in _LONG_CONTRACTIONS else at

    def _signs(self, at: int) -> int:
        at = self._run(at, _SIGNS)
        while at < len(self._text) and self._text[at] in ("\r\n/" if self._is_o200k else "\r\n"):
            at += 1
        return at

    def _blanks(self, at: int) -> int:
        """Up to the last line break; else all but the last, which goes with the next word."""
        end = self._run(at, _BLANKS)
        if not self._is_o200k and end == len(self._text):
            return end
        if (last := self._kinds.rfind(LINE, at, end)) >= 0:
            return last + 1
        return end if end == len(self._text) or end == at + 1 else end - 1


def _may_lead(kind: int) -> bool:
    return kind in (*_SIGNS, SPACE)


def _small(text: str) -> str:
    return text.lower() if text.isascii() else text
