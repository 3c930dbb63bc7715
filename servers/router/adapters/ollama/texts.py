"""Embeddings from Ollama's own /api/embed."""

from typing import Any

import orjson

from servers.domain.chat import Usage
from servers.router.adapters.failures import garbage, in_stream
from servers.router.adapters.http import Call, Http, loads
from servers.router.adapters.streaming import MISSHAPEN
from servers.router.adapters.texts.answers import as_many, vector
from servers.router.adapters.texts.batches import Batch, answers, batches, estimated, joined
from servers.router.ports import EmbedAsk, Embedded

_MOST, _CHARACTERS = 128, 300_000  # Ollama has no limits; so that no answer grows large


async def embed(http: Http, ask: EmbedAsk, where: Call, truncate: bool) -> Embedded:
    """`where` is the call without its body."""

    async def send(part: Batch) -> Embedded:
        body = request(ask, part.texts, truncate)
        call = Call(where.url, where.base, body, ask.api_key)
        return embedded(loads(await http.fetch(call, ask.timeouts), call), part, call)

    parts = batches(ask.texts, _MOST, _CHARACTERS)
    return joined(await answers(parts, send, where.base, ask.timeouts))


def request(ask: EmbedAsk, texts: tuple[str, ...], truncate: bool) -> bytes:
    """Ollama cuts texts silently unless it is told not to."""
    body: dict[str, Any] = {"model": ask.model, "input": texts, "truncate": truncate}
    if ask.dimensions is not None:
        body["dimensions"] = ask.dimensions
    return orjson.dumps(body)


def embedded(answer: Any, part: Batch, call: Call) -> Embedded:
    try:
        if answer.get("error"):
            raise in_stream(call.base, answer, call.api_key)
        rows = as_many(answer["embeddings"], len(part.texts), "embeddings", call)
        tokens = answer.get("prompt_eval_count")
        used = Usage(int(tokens)) if tokens else estimated(part.texts)
        return Embedded(tuple(map(vector, rows)), used, str(answer.get("model") or ""))
    except MISSHAPEN:
        raise garbage(call.base, "answered no embeddings") from None
