"""Hugging Face's text-embeddings-inference: embeddings or rankings by the one model it serves."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import orjson

from servers.domain.chat import Usage
from servers.domain.models import Capabilities
from servers.kernel.errors import AstromeshError, NotReady
from servers.router.adapters.failures import garbage
from servers.router.adapters.http import Call, Http, loads, url
from servers.router.adapters.streaming import MISSHAPEN
from servers.router.adapters.texts.answers import as_many, in_order, vector
from servers.router.adapters.texts.batches import Batch, answers, batches, estimated, joined
from servers.router.ports import EmbedAsk, Embedded, RerankAsk, Reranked, Timeouts

_PROBE = Timeouts(total=5.0)
_CHARACTERS = 400_000  # a body may have 2 MB, and a character has up to four bytes

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Served:
    """What a server says of itself."""

    model: str
    kinds: frozenset[str]  # "embedding", "reranker", "classifier"
    most: int  # texts in one request


@dataclass(frozen=True, slots=True)
class Answered:
    rows: Any
    tokens: int | None  # TEI counts in a header
    call: Call


class TextEmbeddingsInference:
    def __init__(self, endpoint: str, http: Http, *, truncate: bool = False) -> None:
        self.endpoint = endpoint
        self._http = http
        self._base = str(url(endpoint)).rstrip("/")
        self._truncate = truncate
        self._served: Served | None = None

    async def embed(self, ask: EmbedAsk) -> Embedded:
        served = await self._serving("embedding", ask.api_key)

        async def send(part: Batch) -> Embedded:
            body = {"inputs": part.texts, "dimensions": ask.dimensions}
            return _embedded(await self._post("/embed", body, ask), part, served.model)

        return joined(await self._all(ask.texts, served.most, send, ask.timeouts))

    async def rerank(self, ask: RerankAsk) -> Reranked:
        served = await self._serving("reranker", ask.api_key)

        async def send(part: Batch) -> Reranked:
            body = {"query": ask.query, "texts": part.texts}
            return _reranked(await self._post("/rerank", body, ask), part, ask.query)

        found = await self._all(ask.documents, served.most, send, ask.timeouts)
        scores = tuple(score for each in found for score in each.scores)
        return Reranked(scores, sum((each.usage for each in found), Usage()), served.model)

    async def health(self, api_key: str) -> None:
        await self._http.fetch(self._call("/health", api_key, method="GET"), _PROBE)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities()

    async def _serving(self, wanted: str, api_key: str) -> Served:
        served = self._served
        if served is None:
            call = self._call("/info", api_key, method="GET")
            served = self._served = _info(loads(await self._http.fetch(call, _PROBE), call), call)
        if wanted not in served.kinds:
            self._served = None
            raise NotReady(
                f"{self.endpoint} serves {served.model!r}, which is no {wanted} model",
                reason="MODEL_CANNOT",
            )
        return served

    async def _all(
        self,
        texts: Sequence[str],
        most: int,
        send: Callable[[Batch], Awaitable[T]],
        timeouts: Timeouts,
    ) -> list[T]:
        try:
            return await answers(batches(texts, most, _CHARACTERS), send, self.endpoint, timeouts)
        except AstromeshError:
            self._served = None  # it may have been started anew, with other limits
            raise

    async def _post(
        self, path: str, body: Mapping[str, Any], ask: EmbedAsk | RerankAsk
    ) -> Answered:
        said = {key: value for key, value in body.items() if value is not None}
        whole = orjson.dumps({**said, "truncate": self._truncate})
        call = self._call(path, ask.api_key, whole)
        headers, answer = await self._http.exchange(call, ask.timeouts)
        tokens = headers.get("x-compute-tokens", "")
        return Answered(loads(answer, call), int(tokens) if tokens.isdecimal() else None, call)

    def _call(self, path: str, api_key: str, body: bytes = b"", method: str = "POST") -> Call:
        return Call(url(self._base + path), self.endpoint, body, api_key, method)


def _info(said: Any, call: Call) -> Served:
    try:
        return Served(
            str(said["model_id"]),
            frozenset(said["model_type"]),
            max(1, int(said["max_client_batch_size"])),
        )
    except MISSHAPEN:
        raise garbage(call.base, "tells nothing of its model: is it a TEI server?") from None


def _embedded(answer: Answered, part: Batch, model: str) -> Embedded:
    try:
        rows = as_many(answer.rows, len(part.texts), "embeddings", answer.call)
        return Embedded(tuple(map(vector, rows)), _usage(answer, estimated(part.texts)), model)
    except MISSHAPEN:
        raise garbage(answer.call.base, "answered no embeddings") from None


def _reranked(answer: Answered, part: Batch, query: str) -> Reranked:
    try:
        rows = in_order(as_many(answer.rows, len(part.texts), "scores", answer.call))
        scores = tuple(float(row["score"]) for row in rows)
        return Reranked(scores, _usage(answer, estimated(part.texts, query)))
    except MISSHAPEN:
        raise garbage(answer.call.base, "answered no ranking") from None


def _usage(answer: Answered, otherwise: Usage) -> Usage:
    return otherwise if answer.tokens is None else Usage(answer.tokens)
