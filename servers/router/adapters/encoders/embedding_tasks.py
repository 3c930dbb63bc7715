"""What is wanted of an embedding model: vectors of texts, or the relevance of documents."""

from array import array
from collections.abc import Sequence

import numpy as np

from servers.domain.embeddings import Vector
from servers.kernel import native
from servers.kernel.errors import NotReady
from servers.router.adapters.encoders.late_interaction import directions, relevance
from servers.router.adapters.encoders.lengths import bounded
from servers.router.adapters.encoders.onnx_model import Numbers, OnnxModel, Rows
from servers.router.adapters.encoders.tasks import Piece

POOLINGS = ("mean", "cls", "last")
_AS_GIVEN = "as given"  # by the model itself


class Embedding:
    """One vector a text, of length 1. Satisfies `tasks.Task`, as the others here.

    `pooling` "" is what the model is meant for. The vector of a text in several pieces is
    their mean, a piece counting by its length.
    """

    def __init__(
        self, texts: Sequence[str], prefix: str | None, query: bool, pooling: str, truncate: bool
    ) -> None:
        self._texts, self._prefix, self._query = texts, prefix, query
        self._pooling, self._truncate = pooling, truncate
        self._way = ""

    @property
    def sizes(self) -> Sequence[int]:
        return [len(text) for text in self._texts]

    def cut(self, engine: OnnxModel, texts: Sequence[int]) -> Sequence[Sequence[Piece]]:
        self._way = _way(engine, self._pooling)
        prefix = self._prefix
        if prefix is None:
            prefix = engine.folder.prompts.get("query" if self._query else "document", "")
        cut = engine.tokenizer.pieces([prefix + self._texts[each] for each in texts])
        return bounded(cut, [f"texts[{each}]" for each in texts], self._truncate)

    def keep(self, piece: Piece, found: Rows) -> Numbers:
        row = found.text if self._way == _AS_GIVEN else _pooled(found.tokens, self._way)
        assert row is not None
        return row.copy()  # a view would keep the whole batch

    def join(self, pieces: Sequence[Piece], kept: Sequence[Numbers]) -> Vector:
        lengths = np.array([piece.tokens for piece in pieces], np.float32)
        vector = (lengths[:, None] * np.stack(kept)).sum(axis=0)
        return array("f", directions(vector[None])[0].tobytes())


class Words:
    """The directions of a query's tokens."""

    sizes = (1,)

    def __init__(self, query: str) -> None:
        self._query = query

    def cut(self, engine: OnnxModel, texts: Sequence[int]) -> Sequence[Sequence[Piece]]:
        _check_tokens(engine)
        return bounded(engine.tokenizer.pieces([self._query]), ["query"], truncate=False)

    def keep(self, piece: Piece, found: Rows) -> Numbers:
        assert found.tokens is not None
        return directions(found.tokens[piece.content.words])

    def join(self, pieces: Sequence[Piece], kept: Sequence[Numbers]) -> Numbers:
        return np.concatenate(list(kept))


class Relevance:
    """How relevant each document is to a query, by late interaction."""

    def __init__(self, query: Numbers, documents: Sequence[str], truncate: bool) -> None:
        self._query, self._documents, self._truncate = query, documents, truncate

    @property
    def sizes(self) -> Sequence[int]:
        return [len(document) for document in self._documents]

    def cut(self, engine: OnnxModel, texts: Sequence[int]) -> Sequence[Sequence[Piece]]:
        cut = engine.tokenizer.pieces([self._documents[each] for each in texts])
        return bounded(cut, [f"documents[{each}]" for each in texts], self._truncate)

    def keep(self, piece: Piece, found: Rows) -> Numbers:
        assert found.tokens is not None
        return native.max_sim(self._query, found.tokens[piece.content.words])

    def join(self, pieces: Sequence[Piece], kept: Sequence[Numbers]) -> float:
        return relevance(kept)


def _pooled(rows: Numbers | None, way: str) -> Numbers:
    assert rows is not None
    pooled: Numbers = rows.mean(axis=0) if way == "mean" else rows[0 if way == "cls" else -1]
    return pooled


def _way(engine: OnnxModel, wanted: str) -> str:
    """How vectors of tokens become one of the text. Raises NotReady where that isn't known."""
    name = engine.folder.name
    if engine.per_text == "logits":
        raise _cannot(f"{name!r} tells classes of texts, it gives no vectors")
    if wanted:
        _check_tokens(engine)
        return wanted
    if engine.per_text:
        return _AS_GIVEN
    if layers := engine.folder.layers:
        raise _cannot(
            f"{name!r} has {' and '.join(layers)} behind its pooling, which model.onnx has not: "
            "export it with an output named sentence_embedding"
        )
    meant = engine.folder.pooling or POOLINGS[0]
    if meant not in POOLINGS:
        raise _cannot(f"{name!r} pools by {meant!r}, and there are only {', '.join(POOLINGS)}")
    return meant


def _check_tokens(engine: OnnxModel) -> None:
    if not engine.per_token:
        raise _cannot(
            f"{engine.folder.name!r} gives one vector a text and none of its tokens: it can't be "
            "pooled otherwise, nor rank"
        )


def _cannot(what: str) -> NotReady:
    return NotReady(what, reason="MODEL_CANNOT")
