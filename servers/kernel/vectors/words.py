"""The words of a text, and what they weigh: BM25, the same for every store.

A word is letters and digits, without regard to case; of scripts that put no spaces between
words each character is one. A text's length is compared with a fixed one and not with the
mean of all texts, so that what a word weighs in a text is known when the text is stored, and
doesn't change with others. How rare a word is (`rarity`) is counted among the texts that the
query may see: what others keep has no part in it.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from math import log
from typing import Final

from servers.kernel.vectors.ports import Found

MOST_ASKED: Final = 64  # words of a query
NUMBERS: Final = 1_000_000_000  # that words can have, from 1: as many as a sparsevec takes
_MOST_KEPT = 16_000  # different words of a text, as many as a sparsevec takes
_SATURATION, _LENGTH = 1.2, 0.75  # k1 and b, as they usually are
_USUAL = 160.0  # words: about a chunk of 1,000 characters
_SPACELESS = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_SPACELESS}]|[^\W_{_SPACELESS}]+")


def words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def asked(text: str) -> list[str]:
    """The different words of a query."""
    return list(dict.fromkeys(words(text)))[:MOST_ASKED]


def weights(text: str) -> dict[str, float]:
    """What each word weighs in a text, before its rarity."""
    return weighed(words(text))


def weighed(said: Sequence[str]) -> dict[str, float]:
    length = 1 - _LENGTH + _LENGTH * len(said) / _USUAL
    counted = islice(Counter(said).items(), _MOST_KEPT)
    return {word: n * (_SATURATION + 1) / (n + _SATURATION * length) for word, n in counted}


def rarity(having: int, texts: int) -> float:
    """Of a word that `having` of the texts have. Never below 0."""
    return log(1 + (max(texts, having) - having + 0.5) / (having + 0.5))


@lru_cache(maxsize=100_000)
def number(word: str) -> int:
    """A word as a number. Two may share one, once in some thousand queries."""
    digest = blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest) % (NUMBERS - 1) + 1


def numbered(of: Mapping[str, float]) -> dict[int, float]:
    return {number(word): weight for word, weight in of.items()}


def in_order(scored: Iterable[tuple[float, Found]], limit: int) -> list[Found]:
    """The best ones first; those as good as each other by record and index, so that stores
    that add in another order agree."""
    key = lambda each: (-round(each[0], 4), each[1].record.id, each[1].index)  # noqa: E731
    return [found for _, found in sorted(scored, key=key)[:limit]]
