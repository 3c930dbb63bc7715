"""/v1/embeddings as OpenAI, vLLM and llama.cpp answer it, and /v1/rerank as the latter two do."""

import math
import struct
from base64 import b64encode
from typing import Any

from tests.scripted.http_server import Reply, Said
from tests.scripted.texts import length_of, rows, score_for, tokens, vector_for, with_faults

_TOO_MANY = "Invalid 'input': array too long. Expected an array with maximum length 2048"


def embeddings(reply: Reply, asked: Any) -> Said:
    texts = asked["input"]
    if len(texts) > 2048:
        error = {"message": _TOO_MANY, "type": "invalid_request_error", "param": "input"}
        return Said({"error": error}, status=400)
    length = length_of(reply, asked.get("dimensions"))
    vectors = with_faults(reply, [list(vector_for(text, length)) for text in texts])
    if asked.get("encoding_format") == "base64":
        vectors = [_base64(each) for each in vectors]
    data = [
        {"object": "embedding", "index": at, "embedding": vector}
        for at, vector in enumerate(vectors)
    ]
    answer = {"object": "list", "data": rows(reply, data), "model": asked["model"]}
    return Said({**answer, **_usage(reply, tokens(texts))})


def ranking(reply: Reply, asked: Any) -> Said:
    """Best first, as vLLM has it: with the documents."""
    query, documents = asked["query"], asked["documents"]
    results: list[Any] = [
        {"index": at, "document": {"text": each}, "relevance_score": score_for(query, each)}
        for at, each in enumerate(documents)
    ]
    results.sort(key=lambda row: -row["relevance_score"])
    if getattr(reply, "hole", False):
        results[0]["relevance_score"] = None
    answer = {"id": "rerank-1", "model": asked["model"], "results": rows(reply, results)}
    return Said({**answer, **_usage(reply, tokens(documents, query))})


def _base64(vector: list[float | None]) -> str:
    numbers = (math.nan if number is None else number for number in vector)
    return b64encode(struct.pack(f"<{len(vector)}f", *numbers)).decode()


def _usage(reply: Reply, counted: int) -> dict[str, Any]:
    return {"usage": {"prompt_tokens": counted, "total_tokens": counted}} if reply.counted else {}
