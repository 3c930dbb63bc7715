"""Tokenizers of well-known models, by the encodings of `servers.kernel.tokens` (extra `tokens`).

Satisfies `ports.Tokenizers`. Without the package no tokenizer is known, and counts are estimates.
"""

from servers.kernel.tokens import encoding, encoding_of
from servers.router.ports import Tokenizer


class PackagedTokenizers:
    """Each is loaded when it is first wanted: tens of milliseconds, so not on the event loop."""

    def of(self, model: str) -> Tokenizer | None:
        name = encoding_of(model)
        found = encoding(name) if name else None
        return Tokenizer(found.name, found.count) if found else None
