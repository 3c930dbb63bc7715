"""Topics: words and phrases, whatever their case, and never a part of a word.

The words of a phrase may stand apart by spaces, hyphens or an apostrophe. In scripts that put
no spaces between words every letter counts as a word.
"""

import re
import unicodedata
from collections.abc import Iterable
from typing import TypeAlias

from servers.agents.guardrails.spans import Scan, merged

# Chinese, Japanese, Thai, Lao, Burmese, Khmer.
_DENSE = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    r"\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that stand on letters, which `\w` doesn't have, and joiners.
_MARKS = (
    r"\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u06d6-\u06ed"
    r"\u0900-\u0963\u0966-\u0dff\u200c\u200d\u20d0-\u20f0\ufe20-\ufe2f"
)
_WORD = re.compile(rf"[{_DENSE}][{_MARKS}]*|(?:(?![_{_DENSE}])[\w{_MARKS}])+")
_GAP = re.compile(r"[\s_'\u2019\u2010-\u2015-]{0,8}\Z")
_JOINERS = {0x200C: None, 0x200D: None}

_Tree: TypeAlias = "dict[str, _Tree]"
_END = ""  # no word is empty


class TopicScanner:
    context = 0

    def __init__(self, topics: Iterable[str]) -> None:
        self._tree: _Tree = {}
        for topic in topics:
            at = self._tree
            for word in _WORD.findall(topic):
                at = at.setdefault(_plain(word), {})
            at[_END] = {}

    def scan(self, text: str, begin: int, final: bool) -> Scan:
        words = [match.span() for match in _WORD.finditer(text, begin)]
        held = len(text)
        if words and words[-1][1] == held and not final:  # it may go on
            held = words.pop()[0]
        plain = [_plain(text[start:end]) for start, end in words]
        found = []
        for index, (start, _) in enumerate(words):
            if plain[index] not in self._tree:
                continue
            end, is_open = self._longest(text, words, plain, index, held)
            if is_open and not final:
                held = start
                break
            if end:
                found.append((start, end))
        return merged(found, len(text) if final else held)

    def _longest(
        self, text: str, words: list[tuple[int, int]], plain: list[str], index: int, upto: int
    ) -> tuple[int, bool]:
        """Where the longest topic ends that begins at a word, and whether one may go on."""
        at, end, before = self._tree, 0, words[index][0]
        for (start, stop), word in zip(words[index:], plain[index:], strict=True):
            if not _GAP.match(text, before, start) or word not in at:
                return end, False
            at, before = at[word], stop
            end = stop if _END in at else end
        goes_on = any(word != _END for word in at)
        return end, goes_on and _GAP.match(text, before, upto) is not None


def _plain(word: str) -> str:
    return unicodedata.normalize("NFKC", word).translate(_JOINERS).casefold()
