"""An encoder on ONNX Runtime, with its tokenizer: the engine of a worker's thread.

Written for models as Hugging Face exports them: token numbers in, one row a token or one
row a text out. Inputs that a model does not have are left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from servers.kernel.errors import NotReady
from servers.router.adapters.encoders.folder import ModelFolder
from servers.router.adapters.encoders.session import first_line, run_options
from servers.router.adapters.encoders.tasks import Piece, Switch
from servers.router.adapters.encoders.tokenizing import Tokenizer
from servers.router.ports import ProviderDown

Numbers = NDArray[np.float32]

_FEEDS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_WHOLE_NUMBERS = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_PER_TOKEN = ("last_hidden_state", "token_embeddings")
_PER_TEXT = ("sentence_embedding", "logits")


@dataclass(frozen=True, slots=True)
class Rows:
    """What the model made of a piece; None for what it does not give."""

    tokens: Numbers | None  # one row a token
    text: Numbers | None  # one row


class OnnxModel:
    """Satisfies `tasks.Engine`. Raises NotReady for a model that is no encoder."""

    def __init__(self, folder: ModelFolder, session: Any, tokenizer: Tokenizer) -> None:
        self.folder, self.tokenizer = folder, tokenizer
        self._session = session
        self._pad = tokenizer.pad if folder.pad is None else folder.pad
        self._inputs = _inputs(folder, session)
        self.per_token, self.per_text = _outputs(folder, session)
        self._wanted = [name for name in (self.per_token, self.per_text) if name]

    @property
    def window(self) -> int:
        """Tokens that are read at once."""
        return self.tokenizer.window

    def switch(self) -> Switch:
        return cast(Switch, run_options())

    def run(self, pieces: Sequence[Piece], switch: Switch) -> list[Rows]:
        if "attention_mask" not in self._inputs:  # it could not tell the padding from the text
            return [row for piece in pieces for row in self._run([piece], switch)]
        return self._run(pieces, switch)

    def _run(self, pieces: Sequence[Piece], switch: Switch) -> list[Rows]:
        try:
            found = self._session.run(self._wanted, self._feeds(pieces), switch)
        except Exception as failed:  # the package's own classes, all directly below Exception
            raise ProviderDown(
                f"model {self.folder.name!r} failed: {first_line(failed)}",
                reason="PROVIDER_FAILED",
            ) from failed
        rows = dict(zip(self._wanted, found, strict=True))
        tokens, texts = rows.get(self.per_token), rows.get(self.per_text)
        return [
            Rows(
                None if tokens is None else _numbers(tokens[index, : piece.tokens]),
                None if texts is None else _numbers(texts[index]),
            )
            for index, piece in enumerate(pieces)
        ]

    def _feeds(self, pieces: Sequence[Piece]) -> dict[str, NDArray[Any]]:
        """The pieces below one another, filled up to the longest."""
        shape = len(pieces), max(piece.tokens for piece in pieces)
        ids = np.full(shape, self._pad, np.int64)
        mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, piece in enumerate(pieces):
            ids[row, : piece.tokens] = piece.content.ids
            types[row, : piece.tokens] = piece.content.types
            mask[row, : piece.tokens] = 1
        places = np.broadcast_to(np.arange(shape[1]), shape)
        feeds = dict(zip(_FEEDS, (ids, mask, types, places), strict=True))
        return {
            name: np.ascontiguousarray(feeds[name], dtype) for name, dtype in self._inputs.items()
        }


def _numbers(row: NDArray[Any]) -> Numbers:
    """Half precision becomes what everybody else has."""
    return row.astype(np.float32, copy=False)


def _inputs(folder: ModelFolder, session: Any) -> dict[str, Any]:
    """The inputs and their types."""
    inputs = session.get_inputs()
    strange = [each.name for each in inputs if each.name not in _FEEDS]
    if strange or all(each.name != "input_ids" for each in inputs):
        raise _no_encoder(folder, f"wants {', '.join(strange) or 'no input_ids'}")
    if any(isinstance(size, int) for each in inputs for size in each.shape):
        raise _no_encoder(folder, "reads one size of batch only, export it with dynamic axes")
    return {each.name: _WHOLE_NUMBERS.get(each.type, np.int64) for each in inputs}


def _outputs(folder: ModelFolder, session: Any) -> tuple[str, str]:
    """The output with a row a token, and the one with a row a text; "" where there is none."""
    shapes = {each.name: len(each.shape or ()) for each in session.get_outputs()}
    tokens = [name for name, dimensions in shapes.items() if dimensions == 3]
    texts = [name for name, dimensions in shapes.items() if dimensions == 2]
    per_token = _first(tokens, _PER_TOKEN) or (tokens[0] if tokens else "")
    per_text = _first(texts, _PER_TEXT)
    if not per_text and not per_token and texts:  # beside rows of tokens it may be anything
        per_text = texts[0]
    if not per_text and not per_token:
        raise _no_encoder(folder, f"gives {', '.join(shapes)}, neither per token nor per text")
    return per_token, per_text


def _first(found: Sequence[str], names: Sequence[str]) -> str:
    return next((name for name in names if name in found), "")


def _no_encoder(folder: ModelFolder, what: str) -> NotReady:
    return NotReady(
        f"{folder.model.name} of {folder.name!r} is no encoder: it {what}", reason="MODEL_CANNOT"
    )
