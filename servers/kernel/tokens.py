"""Exact counts of tokens by a model's own tokenizer, and texts cut to a number of them.

Encodings come from quicktok, which carries the vocabularies of o200k_base, cl100k_base and some
more (extra `tokens`), or from a `tokenizer.json` (package `tokenizers`). Those of OpenAI are
counted by compiled code of our own, where there is some (docs/adr/0025). Special tokens in a text
are text.
"""

import base64
import hashlib
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from servers.kernel import native
from servers.kernel.native.letter_kinds import kinds

# By name, as vendors and their servers spell it. The first that fits holds.
_MODELS = (
    (re.compile(r"gpt-oss"), "o200k_harmony"),
    (re.compile(r"(gpt-(4o|4\.1|4\.5|5)|chatgpt-4o|\bo[134](-|$))"), "o200k_base"),
    (re.compile(r"(gpt-(4|3\.5|35)|text-embedding-(3|ada))"), "cl100k_base"),
    (re.compile(r"llama-?3"), "llama3"),
    (re.compile(r"qwen-?(2\.5|3)"), "qwen3"),
)
# SHA-256 of the vocabularies as OpenAI publishes them, in the format of tiktoken.
_PUBLISHED = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
_loading = threading.Lock()


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a model's tokenizer sees texts. Of any size: not for the event loop."""

    name: str
    count: Callable[[str], int]
    cut: Callable[[str, int], str]  # the longest beginning of whole tokens, at most so many


def encoding_of(model: str) -> str:
    """The encoding of a model's name, "" where it is not known."""
    last = model.lower().rsplit("/", 1)[-1]
    return next((name for pattern, name in _MODELS if pattern.search(last)), "")


def encoding(name: str, compiled: bool = native.COMPILED) -> Encoding | None:
    """By the name of the encoding; None without the package. The first time takes a while."""
    with _loading:
        return _packaged(name, compiled)


def encoding_from(path: Path) -> Encoding:
    """From a `tokenizer.json` as Hugging Face's models have it. Raises OSError and ValueError."""
    import tokenizers

    text = path.read_text("utf-8")
    try:
        loaded = tokenizers.Tokenizer.from_str(text)
    except Exception as broken:  # the package raises Exception itself
        raise ValueError(f"{path}: {broken}") from None
    loaded.no_truncation()
    loaded.no_padding()
    return Encoding(path.name, partial(_file_count, loaded), partial(_file_cut, loaded))


def trimmed(texts: Sequence[str], budget: int, count: Callable[[str], int]) -> list[str]:
    """The newest, which come last, that together have at most `budget` tokens.

    The first that doesn't fit ends it, from the newest backwards: no gaps.
    """
    first, left = len(texts), budget
    while first > 0 and (left := left - count(texts[first - 1])) >= 0:
        first -= 1
    return list(texts[first:])


@cache
def _packaged(name: str, compiled: bool) -> Encoding | None:
    try:
        import quicktok
    except ModuleNotFoundError:
        return None
    if compiled and name in _PUBLISHED:
        tokens = _tokens(quicktok.get_encoding(name), _PUBLISHED[name])
        bpe = native.Bpe(tokens, kinds(), name.removesuffix("_base"))
        return Encoding(name, partial(_bpe_count, bpe), partial(_bpe_cut, bpe))
    if compiled and name == "o200k_harmony":  # the same but for its special tokens
        base = _packaged("o200k_base", compiled)
        return base and replace(base, name=name)
    loaded = quicktok.get_encoding(name)
    return Encoding(name, partial(_count, loaded), partial(_cut, loaded))


def _tokens(loaded: Any, published: str) -> list[bytes]:
    """By rank. Raises ValueError where they are not those that were published."""
    count = len(loaded.token_byte_values())
    tokens: list[bytes] = [loaded.decode_single_token_bytes(rank) for rank in range(count)]
    lines = (b"%s %d\n" % (base64.b64encode(each), rank) for rank, each in enumerate(tokens))
    if hashlib.sha256(b"".join(lines)).hexdigest() != published:
        raise ValueError(f"{loaded.name}: the vocabulary is not the published one")
    return tokens


def _bpe_count(bpe: native.Bpe, text: str) -> int:
    try:
        return bpe.count(text)
    except ValueError:
        return bpe.count(_whole(text))


def _bpe_cut(bpe: native.Bpe, text: str, most: int) -> str:
    try:
        return text[: bpe.fitting(text, most)]
    except ValueError:
        return _longest(text, most, partial(_bpe_count, bpe))


def _count(loaded: Any, text: str) -> int:
    found: int = loaded.count(_whole(text))
    return found


def _cut(loaded: Any, text: str, most: int) -> str:
    tokens = loaded.encode_ordinary(_whole(text))
    if len(tokens) <= most:
        return text
    for kept in range(max(most, 0), 0, -1):
        # A character of which only some bytes are there is left out.
        start: str = loaded.decode_bytes(tokens[:kept]).decode("utf-8", "ignore")
        if not text.startswith(start):
            return _longest(text, most, partial(_count, loaded))
        # Cut off, the end may be read as other tokens, and once in a while as more.
        if loaded.count(start) <= most:
            return start
    return ""


def _whole(text: str) -> str:
    """Halves of characters (lone surrogates) as the sign for what can't be read, like tiktoken."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _longest(text: str, most: int, count: Callable[[str], int]) -> str:
    """Where tokens are not of the text as it is written: found by halving."""
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count(text[:middle]) <= most else (low, middle - 1)
    return text[:low]


def _file_count(loaded: Any, text: str) -> int:
    return len(loaded.encode(_whole(text), add_special_tokens=False).ids)


def _file_cut(loaded: Any, text: str, most: int) -> str:
    found = loaded.encode(_whole(text), add_special_tokens=False)
    if len(found.ids) <= most:
        return text
    for kept in range(max(most, 0), 0, -1):
        start = text[: found.offsets[kept - 1][1]]
        if _file_count(loaded, start) <= most:
            return start
    return ""
