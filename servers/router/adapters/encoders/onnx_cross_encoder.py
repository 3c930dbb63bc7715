"""Rankings by a model that reads query and document together, on ONNX Runtime."""

from collections.abc import Sequence
from functools import partial
from math import exp
from typing import ClassVar

from servers.domain.chat import Usage
from servers.domain.models import Capabilities
from servers.kernel.errors import NotReady
from servers.router.adapters.encoders.lengths import bounded, too_long
from servers.router.adapters.encoders.onnx_load import Loading, load
from servers.router.adapters.encoders.onnx_model import OnnxModel, Rows
from servers.router.adapters.encoders.owner import Encoders
from servers.router.adapters.encoders.tasks import Piece
from servers.router.adapters.encoders.worker import Bounds, Worker
from servers.router.ports import RerankAsk, Reranked


class OnnxCrossEncoder:
    """A document in several pieces is as relevant as the best of them."""

    needs: ClassVar = ("encoders",)

    def __init__(
        self,
        endpoint: str,
        encoders: Encoders,
        *,
        activation: str = "",
        max_tokens: int = 0,
        truncate: bool = False,
        threads: int = 0,
        device: str = "auto",
        max_batch: int = Bounds().batch,
        max_waiting: int = Bounds().waiting,
    ) -> None:
        self.endpoint = endpoint
        self._activation, self._truncate = activation, truncate
        loading = Loading(endpoint, True, max_tokens, threads, device)
        bounds = Bounds(max_batch, max_waiting)
        self._worker: Worker[OnnxModel] = encoders.worker(
            (loading, bounds), endpoint, partial(load, loading), bounds
        )

    async def rerank(self, ask: RerankAsk) -> Reranked:
        task = _Pairs(ask.query, ask.documents, self._activation, self._truncate)
        done = await self._worker.do(task, ask.timeouts.total)
        return Reranked(tuple(done.results), Usage(done.tokens))

    async def health(self, api_key: str) -> None:
        """Loads the model, where it is not loaded yet."""
        await self._worker.ready()

    def capabilities(self, model: str) -> Capabilities:
        engine = self._worker.engine
        return Capabilities(False, False, False, False, engine.window if engine else None)


class _Pairs:
    """Satisfies `tasks.Task`."""

    def __init__(
        self, query: str, documents: Sequence[str], activation: str, truncate: bool
    ) -> None:
        self._query, self._documents = query, documents
        self._activation, self._truncate = activation, truncate

    @property
    def sizes(self) -> Sequence[int]:
        return [len(document) for document in self._documents]

    def cut(self, engine: OnnxModel, texts: Sequence[int]) -> Sequence[Sequence[Piece]]:
        if not engine.per_text:
            raise NotReady(
                f"{engine.folder.name!r} is no cross-encoder: it gives no score of a text",
                reason="MODEL_CANNOT",
            )
        # What models are trained with unless they say something else.
        self._activation = self._activation or engine.folder.activation or "sigmoid"
        pairs = [(self._query, self._documents[each]) for each in texts]
        try:
            cut = engine.tokenizer.pieces(pairs)
        except Exception:  # it raises nothing more specific
            raise too_long(
                "query",
                f"leaves no room for a document in the {engine.window} tokens that "
                "the model reads at once",
            ) from None
        return bounded(cut, [f"documents[{each}]" for each in texts], self._truncate)

    def keep(self, piece: Piece, found: Rows) -> float:
        """The logit; of two classes, by how much the second one is the likelier."""
        assert found.text is not None
        match found.text.tolist():
            case [logit]:
                return float(logit)
            case [no, yes]:
                return float(yes) - float(no)
            case classes:
                raise NotReady(
                    f"the model tells {len(classes)} classes apart: a cross-encoder has one "
                    "output, or two",
                    reason="MODEL_CANNOT",
                )

    def join(self, pieces: Sequence[Piece], kept: Sequence[float]) -> float:
        best = max(kept)
        return best if self._activation == "none" else _sigmoid(best)


def _sigmoid(logit: float) -> float:
    small = exp(-abs(logit))
    return (1.0 if logit >= 0 else small) / (1.0 + small)
