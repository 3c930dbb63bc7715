"""Texts, or pairs of texts, as the token numbers that a model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from servers.kernel.errors import NotReady
from servers.router.adapters.encoders.tasks import Piece

_PADDING = ("[PAD]", "<pad>")


@dataclass(frozen=True, slots=True)
class Tokens:
    """A piece as the model reads it."""

    ids: NDArray[np.int64]
    types: NDArray[np.int64]
    words: NDArray[np.bool_]  # which tokens are of the text, not [CLS], [SEP] and the like


class Tokenizer:
    """Reads tokenizer.json. `window` is how many tokens a piece may have; of pairs, the
    second text goes on in the next piece, and the first one is repeated there."""

    def __init__(self, path: Path, window: int, pairs: bool) -> None:
        import tokenizers

        self.window = window
        try:
            self._tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as broken:  # it raises nothing more specific
            raise NotReady(
                f"{str(path)!r} is no tokenizer: {broken}", reason="MODEL_BROKEN"
            ) from broken
        # What the file says of padding is for others: our batches are as long as they must be.
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(
            window, strategy="only_second" if pairs else "longest_first"
        )

    @property
    def pad(self) -> int:
        """The token to fill up with."""
        known = (self._tokenizer.token_to_id(token) for token in _PADDING)
        return next((each for each in known if each is not None), 0)

    def pieces(self, texts: Sequence[str | tuple[str, str]]) -> list[list[Piece]]:
        """As many of each text as it takes to read all of it.

        Raises the package's Exception for a pair whose first text fills the window alone.
        """
        # Not `encode`, which keeps Python's lock, nor `encode_batch_fast`, which forgets the
        # types of all pieces but the first.
        encoded = self._tokenizer.encode_batch(list(texts))
        return [[_piece(part) for part in (each, *each.overflowing)] for each in encoded]


def _piece(encoding: Any) -> Piece:
    tokens = Tokens(
        np.array(encoding.ids, np.int64),
        np.array(encoding.type_ids, np.int64),
        ~np.array(encoding.special_tokens_mask, bool),
    )
    return Piece(len(tokens.ids), tokens)
