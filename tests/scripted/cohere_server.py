"""A scripted server that speaks Cohere's /v2/embed and /v2/rerank, exactly as seen on the wire.

Under /v1/rerank it speaks as Jina does, which has the same form and counts tokens.
"""

from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

from tests.scripted.http_server import Reply, Said, ScriptedServer, serving
from tests.scripted.openai_texts import ranking
from tests.scripted.texts import length_of, rows, score_for, tokens, vector_for, with_faults

_VERSION = {"api_version": {"version": "2"}}


def embeddings(reply: Reply, asked: Any) -> Said:
    texts = asked["texts"]
    if len(texts) > 96:
        return Said({"message": "total number of texts must be at most 96"}, status=400)
    length = length_of(reply, asked.get("output_dimension"))
    found = with_faults(reply, [list(vector_for(text, length)) for text in texts])
    billed = {"billed_units": {"input_tokens": tokens(texts)}} if reply.counted else {}
    shown = {"float": rows(reply, found)}
    return Said({"id": "1", "embeddings": shown, "texts": texts, "meta": {**_VERSION, **billed}})


def searched(reply: Reply, asked: Any) -> Said:
    """Cohere bills searches: what tokens were used is not told."""
    query, documents = asked["query"], asked["documents"]
    results: list[Any] = [
        {"index": at, "relevance_score": score_for(query, each)}
        for at, each in enumerate(documents)
    ]
    results.sort(key=lambda row: -row["relevance_score"])
    if getattr(reply, "hole", False):
        results[0]["relevance_score"] = None
    meta = {**_VERSION, "billed_units": {"search_units": 1}}
    return Said({"id": "1", "results": rows(reply, results), "meta": meta})


class CohereDialect:
    prefix = ""
    chat = ""
    stream_type = ""
    posts: ClassVar = {"/v2/embed": embeddings, "/v2/rerank": searched, "/v1/rerank": ranking}

    def get(self, path: str) -> Any:
        return {"models": [{"name": "embed-v4.0", "endpoints": ["embed"]}]}

    def refused(self, reply: Reply) -> Any:
        return {"id": "1", "message": reply.error}


def cohere_server(*replies: Reply) -> AbstractAsyncContextManager[ScriptedServer]:
    return serving(CohereDialect(), *replies)
