"""Tokenizers of well-known models, by quicktok, which carries their vocabularies (extra `tokens`).

Satisfies `ports.Tokenizers`. Without the package no tokenizer is known, and counts are estimates.
"""

import re
import threading
from functools import partial
from typing import Any

from servers.router.ports import Tokenizer

# By name, as vendors and their servers spell it. The first that fits holds.
_MODELS = (
    (re.compile(r"gpt-oss"), "o200k_harmony"),
    (re.compile(r"(gpt-(4o|4\.1|4\.5|5)|chatgpt-4o|\bo[134](-|$))"), "o200k_base"),
    (re.compile(r"(gpt-(4|3\.5|35)|text-embedding-(3|ada))"), "cl100k_base"),
    (re.compile(r"llama-?3"), "llama3"),
    (re.compile(r"qwen-?(2\.5|3)"), "qwen3"),
)


class PackagedTokenizers:
    """Each is loaded when it is first wanted: tens of milliseconds, so not on the event loop."""

    def __init__(self) -> None:
        self._loaded: dict[str, Tokenizer | None] = {}
        self._lock = threading.Lock()

    def of(self, model: str) -> Tokenizer | None:
        name = encoding_of(model)
        if not name:
            return None
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = _load(name)
            return self._loaded[name]


def encoding_of(model: str) -> str:
    """The encoding of a model's name, "" where it is not known."""
    last = model.lower().rsplit("/", 1)[-1]
    return next((name for pattern, name in _MODELS if pattern.search(last)), "")


def _load(name: str) -> Tokenizer | None:
    try:
        import quicktok
    except ModuleNotFoundError:
        return None
    return Tokenizer(name, partial(_count, quicktok.get_encoding(name)))


def _count(encoding: Any, text: str) -> int:
    return len(encoding.encode_ordinary(text))
