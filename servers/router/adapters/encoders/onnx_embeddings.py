"""Embeddings and rankings by an encoder on ONNX Runtime, in this process.

Where no model is configured, it is the packaged one: so the router can always embed and rank.
"""

from functools import partial
from pathlib import Path
from typing import ClassVar

from servers.domain.chat import Usage
from servers.domain.embeddings import Purpose
from servers.domain.models import Capabilities
from servers.kernel.errors import InvalidInput, NotReady
from servers.router.adapters.encoders import packaged
from servers.router.adapters.encoders.embedding_tasks import Embedding, Relevance, Words
from servers.router.adapters.encoders.onnx_load import Loading, load
from servers.router.adapters.encoders.onnx_model import OnnxModel
from servers.router.adapters.encoders.owner import Encoders
from servers.router.adapters.encoders.worker import Bounds, Worker
from servers.router.ports import EmbedAsk, Embedded, RerankAsk, Reranked


class OnnxEmbeddings:
    needs: ClassVar = ("encoders",)

    def __init__(
        self,
        endpoint: str,
        encoders: Encoders,
        *,
        pooling: str = "",
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
        self._pooling, self._truncate = pooling, truncate
        self._prefixes = {Purpose.QUERY: query_prefix, Purpose.DOCUMENT: document_prefix}
        loading = Loading(endpoint, False, max_tokens, threads, device)
        bounds = Bounds(max_batch, max_waiting)
        self._worker: Worker[OnnxModel] = encoders.worker(
            (loading, bounds), endpoint, partial(load, loading), bounds
        )

    async def embed(self, ask: EmbedAsk) -> Embedded:
        model = self._named(ask.model)
        query = ask.purpose is Purpose.QUERY
        task = Embedding(
            ask.texts, self._prefixes[ask.purpose], query, self._pooling, self._truncate
        )
        done = await self._worker.do(task, ask.timeouts.total)
        return Embedded(tuple(done.results), Usage(done.tokens), model)

    async def rerank(self, ask: RerankAsk) -> Reranked:
        """Prefixes are left out: every token of a query counts for itself here."""
        model = self._named(ask.model)
        asked = await self._worker.do(Words(ask.query), ask.timeouts.total)
        query = asked.results[0]
        if not len(query):
            raise InvalidInput(
                "query: there is no word in it that the model knows", reason="INVALID_REQUEST"
            )
        task = Relevance(query, ask.documents, self._truncate)
        done = await self._worker.do(task, ask.timeouts.total)
        return Reranked(tuple(done.results), Usage(asked.tokens + done.tokens), model)

    async def health(self, api_key: str) -> None:
        """Loads the model, where it is not loaded yet."""
        await self._worker.ready()

    def capabilities(self, model: str) -> Capabilities:
        engine = self._worker.engine
        window = engine.window if engine else None
        return Capabilities(False, False, False, False, window)

    def _named(self, asked: str) -> str:
        """What the model is called in the answer; "" for as asked."""
        if self.endpoint == packaged.ENDPOINT:
            if asked != packaged.MODEL:
                raise NotReady(
                    f"the packaged model is {packaged.MODEL!r}, no {asked!r}: another one needs "
                    "an `endpoint`, the folder it is in",
                    reason="MODEL_NOT_FOUND",
                )
            return ""
        return Path(self.endpoint).name if asked == packaged.MODEL else ""
