"""Embeddings and rankings by the library sentence-transformers, in this process."""

from array import array
from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import structlog

from servers.domain.chat import Usage
from servers.domain.embeddings import Purpose, Vector
from servers.domain.models import Capabilities
from servers.kernel.errors import NotReady
from servers.router.adapters.encoders.lengths import too_long
from servers.router.adapters.encoders.owner import Encoders
from servers.router.adapters.encoders.tasks import Piece
from servers.router.adapters.encoders.torch_models import (
    Prompted,
    TorchEmbedder,
    TorchLoading,
    TorchRanker,
    load_embedder,
    load_ranker,
)
from servers.router.adapters.encoders.worker import Bounds, Worker
from servers.router.ports import EmbedAsk, Embedded, RerankAsk, Reranked

_log = structlog.stdlib.get_logger("astromesh.router")


class SentenceTransformers:
    """A model is either for vectors or for scores: what it is not for is refused."""

    needs: ClassVar = ("encoders",)

    def __init__(
        self,
        endpoint: str,
        encoders: Encoders,
        *,
        max_tokens: int = 0,
        truncate: bool = False,
        query_prefix: str | None = None,
        document_prefix: str | None = None,
        threads: int = 0,
        device: str = "auto",
        max_batch: int = Bounds().batch,
        max_waiting: int = Bounds().waiting,
    ) -> None:
        self.endpoint = endpoint
        self._truncate = truncate
        self._prefixes = {Purpose.QUERY: query_prefix, Purpose.DOCUMENT: document_prefix}
        loading = TorchLoading(endpoint, max_tokens, threads, device)
        bounds = Bounds(max_batch, max_waiting)
        self._embedder: Worker[TorchEmbedder] = encoders.worker(
            ("embed", loading, bounds), endpoint, partial(load_embedder, loading), bounds
        )
        self._ranker: Worker[TorchRanker] = encoders.worker(
            ("rank", loading, bounds), endpoint, partial(load_ranker, loading), bounds
        )

    async def embed(self, ask: EmbedAsk) -> Embedded:
        task = _Vectors(ask.texts, ask.purpose, self._prefixes[ask.purpose], self._truncate)
        done = await self._embedder.do(task, ask.timeouts.total)
        return Embedded(tuple(done.results), Usage(done.tokens))

    async def rerank(self, ask: RerankAsk) -> Reranked:
        task = _Scores(ask.query, ask.documents, self._truncate)
        done = await self._ranker.do(task, ask.timeouts.total)
        return Reranked(tuple(done.results), Usage(done.tokens))

    async def health(self, api_key: str) -> None:
        """Loads the model, as what it is."""
        try:
            await self._embedder.ready()
        except NotReady as other:
            if other.reason != "MODEL_CANNOT":
                raise
            await self._ranker.ready()

    def capabilities(self, model: str) -> Capabilities:
        engine = self._embedder.engine or self._ranker.engine
        return Capabilities(False, False, False, False, engine.window if engine else None)


class _Vectors:
    """Satisfies `tasks.Task`, as the other one."""

    def __init__(
        self, texts: Sequence[str], purpose: Purpose, prompt: str | None, truncate: bool
    ) -> None:
        self._texts, self._purpose, self._prompt = texts, purpose, prompt
        self._truncate = truncate

    @property
    def sizes(self) -> Sequence[int]:
        return [len(text) for text in self._texts]

    def cut(self, engine: TorchEmbedder, texts: Sequence[int]) -> Sequence[Sequence[Piece]]:
        prompt = engine.prompt(self._purpose) if self._prompt is None else self._prompt
        lengths = engine.lengths([prompt + self._texts[each] for each in texts])
        names = [f"texts[{each}]" for each in texts]
        return [
            [Piece(length, Prompted(self._texts[each], self._purpose, self._prompt))]
            for each, length in zip(
                texts, _within(lengths, names, engine.window, self._truncate), strict=True
            )
        ]

    def keep(self, piece: Piece, found: Any) -> Vector:
        return array("f", found.astype("float32").tobytes())

    def join(self, pieces: Sequence[Piece], kept: Sequence[Vector]) -> Vector:
        return kept[0]


class _Scores:
    def __init__(self, query: str, documents: Sequence[str], truncate: bool) -> None:
        self._query, self._documents, self._truncate = query, documents, truncate

    @property
    def sizes(self) -> Sequence[int]:
        return [len(document) for document in self._documents]

    def cut(self, engine: TorchRanker, texts: Sequence[int]) -> Sequence[Sequence[Piece]]:
        pairs = [(self._query, self._documents[each]) for each in texts]
        names = [f"documents[{each}]" for each in texts]
        lengths = _within(engine.lengths(pairs), names, engine.window, self._truncate)
        return [[Piece(length, list(pair))] for pair, length in zip(pairs, lengths, strict=True)]

    def keep(self, piece: Piece, found: Any) -> float:
        """The score; of two classes, by how much the second one is the likelier."""
        match found.tolist():
            case float(score):
                return score
            case [no, yes]:
                return float(yes) - float(no)
        raise NotReady(
            "the model tells more than two classes apart: a cross-encoder has one output, or two",
            reason="MODEL_CANNOT",
        )

    def join(self, pieces: Sequence[Piece], kept: Sequence[float]) -> float:
        return kept[0]


def _within(
    lengths: Sequence[int], names: Sequence[str], window: int | None, truncate: bool
) -> list[int]:
    """What is read of each text. Raises InvalidInput for one that is too long."""
    if window is None:
        return list(lengths)
    if truncate:
        if cut := sum(length > window for length in lengths):
            _log.warning("texts were cut", texts=cut, kept_tokens=window)
        return [min(length, window) for length in lengths]
    for length, name in zip(lengths, names, strict=True):
        if length > window:
            raise too_long(
                name,
                f"has {length} tokens, and the model reads {window}: split it, or let the "
                "provider's option `truncate` cut it",
            )
    return list(lengths)
