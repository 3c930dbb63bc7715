"""Keywords, wherever they stand and whatever their case, and patterns. In linear time: RE2.

A pattern that can only match so many characters lets a stream go but for its last ones. Of
one without such a bound (``\\d+``, ``a.*b``) nobody can say where it would match before the
end: it holds a stream whole.
"""

import re
import warnings
from collections.abc import Iterable, Iterator

from servers.agents.guardrails.spans import Scan, merged
from servers.agents.manifest.guardrails import any_keyword, compiled_pattern

_WIDEST = 1_000  # characters; a wider pattern holds a stream whole, too


class ContentScanner:
    context = 1  # for `\b` and `^`

    def __init__(self, keywords: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        words = list(dict.fromkeys(keywords))
        self._keywords = [any_keyword([word]) for word in words]
        self._any = any_keyword(words) if words else None
        self._beginnings = {
            folded[:size] for folded in map(_folded, words) for size in range(1, len(folded))
        }
        self._longest = max(map(len, self._beginnings), default=0)
        self._patterns = [(compiled_pattern(each), width(each)) for each in patterns]
        self._unbounded = any(most is None for _, most in self._patterns)

    def scan(self, text: str, begin: int, final: bool) -> Scan:
        if self._unbounded and not final:
            return Scan((), begin)
        held = len(text)
        text = _encodable(text)
        found = list(self._words(text, begin))
        if not final:
            held = self._open_word(text, begin)
        for pattern, most in self._patterns:
            decided = len(text) if final else len(text) - (most or 0)
            last = begin
            for match in pattern.finditer(text, begin):
                if match.start() >= decided and not final:
                    break
                last = match.end()
                found.append(match.span())
            held = min(held, max(decided, last))
        return merged(found, held)

    def _words(self, text: str, begin: int) -> Iterator[tuple[int, int]]:
        if self._any is None or self._any.search(text, begin) is None:
            return
        for keyword in self._keywords:
            for match in keyword.finditer(text, begin):
                yield match.span()

    def _open_word(self, text: str, begin: int) -> int:
        """Where a keyword may have begun that isn't there as a whole yet."""
        tail = _folded(text[max(begin, len(text) - self._longest) :])
        for size in range(len(tail), 0, -1):
            if tail[-size:] in self._beginnings:
                return len(text) - size
        return len(text)


# What RE2 writes otherwise than Python, whole escapes first so that none is taken apart.
_OTHERWISE = re.compile(r"\\(?:[pP](?:\{\^?\w+\}|\w)|(z)|.)|\[:\^?\w+:\]", re.DOTALL)


def width(pattern: str) -> int | None:
    """The most characters that a pattern can match, and one more that it may look at; None
    where there is no bound, or where Python, which reads most of what RE2 reads, can't tell."""
    if "{," in pattern:  # plain text for RE2
        return None
    try:
        from re import _parser  # type: ignore[attr-defined]  # in no other way to be had

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            most: int = _parser.parse(_OTHERWISE.sub(_as_python, pattern)).getwidth()[1]
    except (ImportError, AttributeError, re.error, Warning, RecursionError, OverflowError):
        return None
    return most + 1 if most <= _WIDEST else None


def _as_python(written: re.Match[str]) -> str:
    text = written.group()
    if text.startswith(("\\p", "\\P", "[")):
        return "a"  # one character of a class
    return "\\Z" if written.group(1) else text


def _folded(text: str) -> str:
    """Without case, character by character, so that lengths stay."""
    return "".join(map(_fold, text))


def _fold(char: str) -> str:
    for plain in (char.casefold(), char.lower()):
        if len(plain) == 1:
            return plain
    return char


def _encodable(text: str) -> str:
    """Halves of surrogate pairs are no text for RE2."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
