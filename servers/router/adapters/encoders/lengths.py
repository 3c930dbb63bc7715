"""Texts that are longer than a model reads at once: read in several pieces, or cut.

Whoever looks for something in a text wants to find what stands at its end, too: so nothing
is left out unless the configuration says `truncate`, and that is written to the log.
"""

from collections.abc import Sequence

import structlog

from servers.kernel.errors import InvalidInput, Violation
from servers.router.adapters.encoders.tasks import Piece

MOST_PIECES = 64  # of one text: a vector of more would say nothing of any part of it

_log = structlog.stdlib.get_logger("astromesh.router")


def bounded(
    texts: Sequence[list[Piece]], names: Sequence[str], truncate: bool
) -> list[list[Piece]]:
    """`names` is what errors call the texts. Raises InvalidInput for one that is far too long."""
    if truncate:
        if cut := sum(len(pieces) > 1 for pieces in texts):
            _log.warning("texts were cut", texts=cut, kept_tokens=_longest(texts))
        return [pieces[:1] for pieces in texts]
    for pieces, name in zip(texts, names, strict=True):
        if len(pieces) > MOST_PIECES:
            tokens = sum(piece.tokens for piece in pieces)
            raise too_long(
                name,
                f"has {tokens} tokens, more than {MOST_PIECES} times what the "
                "model reads at once: split it, and ask with its parts",
            )
    return list(texts)


def too_long(field: str, what: str) -> InvalidInput:
    return InvalidInput(
        f"{field}: {what}", reason="TEXT_TOO_LONG", violations=(Violation(field, what),)
    )


def _longest(texts: Sequence[list[Piece]]) -> int:
    return max(pieces[0].tokens for pieces in texts)
