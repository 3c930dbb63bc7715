"""What the compiled counter of tokens means: byte-pair encoding as tiktoken does it."""

from collections.abc import Sequence
from itertools import accumulate, pairwise

from servers.kernel.native.pretokens import PATTERNS, pieces

CODE_POINTS = 0x110000


class Bpe:
    """The encoding whose token i is `tokens[i]`, with what lies in a text cut by `pattern`.

    `kinds` is what `letter_kinds.kinds` gives. Raises ValueError where a byte is no token, and
    for a text with half a character (a surrogate) in it.
    """

    def __init__(self, tokens: Sequence[bytes], kinds: bytes, pattern: str) -> None:
        if pattern not in PATTERNS:
            raise ValueError(f"pattern: {pattern!r} is neither o200k nor cl100k")
        if len(kinds) != CODE_POINTS:
            raise ValueError("kinds: there is not one for each code point")
        self._ranks = {token: rank for rank, token in enumerate(tokens)}
        if not all(bytes([byte]) in self._ranks for byte in range(256)):
            raise ValueError("tokens: not every single byte is one")
        self._kinds = kinds
        self._pattern = pattern

    def count(self, text: str) -> int:
        return len(self._encoded(text))

    def fitting(self, text: str, most: int) -> int:
        """How many characters the longest beginning has that fits.

        It consists of whole characters, is what some of the first tokens say, and has at most
        `most` tokens itself: cut off, the end may be read as other tokens, and as more.
        """
        tokens = self._encoded(text)
        if len(tokens) <= most:
            return len(text)
        said = text.encode()
        ends = list(accumulate(map(len, tokens)))
        for kept in range(max(most, 0), 0, -1):
            start = said[: ends[kept - 1]].decode("utf-8", "ignore")
            if self.count(start) <= most:
                return len(start)
        return 0

    def _encoded(self, text: str) -> list[bytes]:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError("text: half of a character is in it") from None
        found: list[bytes] = []
        for piece in pieces(text, self._kinds, self._pattern):
            found += self._merged(piece.encode())
        return found

    def _merged(self, piece: bytes) -> list[bytes]:
        """Of two neighbours that are a token those of the lowest rank, from the left, first."""
        parts = [piece] if piece in self._ranks else [bytes([byte]) for byte in piece]
        while True:
            pairs = [(self._ranks.get(a + b), i) for i, (a, b) in enumerate(pairwise(parts))]
            known = [(rank, i) for rank, i in pairs if rank is not None]
            if not known:
                return parts
            _, at = min(known)
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
