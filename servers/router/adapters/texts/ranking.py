"""Ranking in the form that Cohere, Jina, vLLM and llama.cpp share.

All scores are asked for: which documents are the best is decided above, so that every
provider orders equals alike.
"""

from collections.abc import Mapping
from typing import Any

import httpx
import orjson

from servers.domain.chat import Usage
from servers.router.adapters.failures import garbage, in_stream
from servers.router.adapters.http import Call, Http, loads
from servers.router.adapters.openai.texts import the_text_s_fault
from servers.router.adapters.streaming import MISSHAPEN
from servers.router.adapters.texts.answers import as_many, in_order
from servers.router.adapters.texts.batches import estimated
from servers.router.ports import RerankAsk, Reranked


def request(ask: RerankAsk) -> bytes:
    return orjson.dumps({"model": ask.model, "query": ask.query, "documents": ask.documents})


async def rerank(http: Http, ask: RerankAsk, where: httpx.URL, base: str) -> Reranked:
    call = Call(where, base, request(ask), ask.api_key)
    with the_text_s_fault():
        body = await http.fetch(call, ask.timeouts)
    return reranked(loads(body, call), ask, call)


def reranked(answer: Any, ask: RerankAsk, call: Call) -> Reranked:
    if isinstance(answer, Mapping) and answer.get("error"):
        raise in_stream(call.base, answer, call.api_key)
    try:
        rows = as_many(answer["results"], len(ask.documents), "scores", call)
        scores = tuple(float(row["relevance_score"]) for row in in_order(rows))
        return Reranked(scores, _usage(answer, ask), str(answer.get("model") or ""))
    except MISSHAPEN:
        raise garbage(call.base, "answered no ranking") from None


def _usage(answer: Mapping[str, Any], ask: RerankAsk) -> Usage:
    """Cohere bills searches, not tokens, and then tells no tokens."""
    meta = answer.get("meta") or {}
    for counted in (answer.get("usage"), meta.get("tokens"), meta.get("billed_units")):
        for name in ("prompt_tokens", "total_tokens", "input_tokens"):
            if counted and counted.get(name):
                return Usage(int(counted[name]))
    return estimated(ask.documents, ask.query)
