"""Cohere's embeddings and ranking, and servers with the same form of ranking (Jina, vLLM)."""

from contextlib import suppress
from typing import Any

import orjson

from servers.domain.chat import Usage
from servers.domain.embeddings import Purpose
from servers.domain.models import Capabilities
from servers.kernel.errors import NotReady
from servers.router.adapters.failures import garbage
from servers.router.adapters.http import Call, Http, loads, url
from servers.router.adapters.streaming import MISSHAPEN
from servers.router.adapters.texts import ranking as ranking_wire
from servers.router.adapters.texts.answers import as_many, vector
from servers.router.adapters.texts.batches import Batch, answers, batches, estimated, joined
from servers.router.ports import EmbedAsk, Embedded, RerankAsk, Reranked, Timeouts

_PROBE = Timeouts(total=5.0)
_MOST, _CHARACTERS = 96, 300_000  # Cohere takes 96 texts
_INPUT_TYPES = {Purpose.DOCUMENT: "search_document", Purpose.QUERY: "search_query"}


class Cohere:
    def __init__(self, endpoint: str, http: Http, *, truncate: bool = False) -> None:
        self.endpoint = endpoint
        self._http = http
        self._base = _base(endpoint)
        self._truncate = truncate

    async def embed(self, ask: EmbedAsk) -> Embedded:
        where = url(self._base + "/embed")

        async def send(part: Batch) -> Embedded:
            call = Call(where, self.endpoint, self._request(ask, part.texts), ask.api_key)
            return _embedded(loads(await self._http.fetch(call, ask.timeouts), call), part, call)

        parts = batches(ask.texts, _MOST, _CHARACTERS)
        return joined(await answers(parts, send, self.endpoint, ask.timeouts))

    async def rerank(self, ask: RerankAsk) -> Reranked:
        where = url(self._base + "/rerank")
        return await ranking_wire.rerank(self._http, ask, where, self.endpoint)

    async def health(self, api_key: str) -> None:
        root = self._base.removesuffix("/v1").removesuffix("/v2")
        call = Call(url(root + "/v1/models"), self.endpoint, b"", api_key, "GET")
        # A server without this list, or one that wants another key, is there all the same.
        with suppress(NotReady):
            await self._http.fetch(call, _PROBE)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities()

    def _request(self, ask: EmbedAsk, texts: tuple[str, ...]) -> bytes:
        body: dict[str, Any] = {
            "model": ask.model,
            "texts": texts,
            "input_type": _INPUT_TYPES[ask.purpose],
            "embedding_types": ["float"],
            "truncate": "END" if self._truncate else "NONE",
        }
        if ask.dimensions is not None:
            body["output_dimension"] = ask.dimensions
        return orjson.dumps(body)


def _base(endpoint: str) -> str:
    """An address that ends with a version is meant as it is: Jina ranks under /v1."""
    text = str(url(endpoint)).rstrip("/").removesuffix("/rerank").removesuffix("/embed")
    return text if text.endswith(("/v1", "/v2")) else text + "/v2"


def _embedded(answer: Any, part: Batch, call: Call) -> Embedded:
    try:
        rows = as_many(answer["embeddings"]["float"], len(part.texts), "embeddings", call)
        billed = (answer.get("meta") or {}).get("billed_units") or {}
        tokens = billed.get("input_tokens")
        used = Usage(int(tokens)) if tokens else estimated(part.texts)
        return Embedded(tuple(map(vector, rows)), used)
    except MISSHAPEN:
        raise garbage(call.base, "answered no embeddings") from None
