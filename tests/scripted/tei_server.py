"""A scripted server that speaks text-embeddings-inference, exactly as seen on the wire."""

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from tests.scripted.http_server import Reply, Said, ScriptedServer, serving
from tests.scripted.texts import length_of, rows, score_for, tokens, vector_for, with_faults

_TYPES = {
    "embedding": {"embedding": {"pooling": "cls"}},
    "reranker": {"reranker": {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}},
}


@dataclass(slots=True)
class TeiDialect:
    """Serves one model, which either embeds or ranks."""

    kind: str = "embedding"
    most: int = 32  # texts in one request
    longest: int = 512  # tokens of a text; here a token is a character
    prefix = ""
    chat = ""
    stream_type = ""

    @property
    def posts(self) -> Any:
        return {"/embed": self._embed} if self.kind == "embedding" else {"/rerank": self._rerank}

    def get(self, path: str) -> Any:
        if path != "/info":
            return {}
        return {
            "model_id": "BAAI/bge-small-en-v1.5",
            "model_sha": None,
            "model_dtype": "float16",
            "model_type": _TYPES[self.kind],
            "max_concurrent_requests": 512,
            "max_input_length": self.longest,
            "max_batch_tokens": 16384,
            "max_batch_requests": None,
            "max_client_batch_size": self.most,
            "auto_truncate": False,
            "tokenization_workers": 4,
            "version": "1.8.2",
            "sha": None,
            "docker_label": None,
        }

    def refused(self, reply: Reply) -> Any:
        return {"error": reply.error, "error_type": "Backend"}

    def _embed(self, reply: Reply, asked: Any) -> Said:
        texts = asked["inputs"]
        if wrong := self._wrong(texts, asked):
            return wrong
        length = length_of(reply, asked.get("dimensions"))
        found = with_faults(reply, [list(vector_for(text, length)) for text in texts])
        return Said(rows(reply, found), self._counted(reply, tokens(texts)))

    def _rerank(self, reply: Reply, asked: Any) -> Said:
        texts, query = asked["texts"], asked["query"]
        if wrong := self._wrong(texts, asked):
            return wrong
        found: list[Any] = [
            {"index": at, "score": score_for(query, text)} for at, text in enumerate(texts)
        ]
        found.sort(key=lambda row: -row["score"])
        if getattr(reply, "hole", False):
            found[0]["score"] = None
        return Said(rows(reply, found), self._counted(reply, tokens(texts, query)))

    def _wrong(self, texts: list[str], asked: Any) -> Said | None:
        said = ""
        if len(texts) > self.most:
            said = f"batch size {len(texts)} > maximum allowed batch size {self.most}"
        longest = max(map(len, texts))
        if longest > self.longest and not asked["truncate"]:
            said = f"`inputs` must have less than {self.longest} tokens. Given: {longest}"
        return Said({"error": said, "error_type": "Validation"}, status=413) if said else None

    def _counted(self, reply: Reply, count: int) -> list[tuple[str, str]]:
        counted = [("x-compute-tokens", str(count))] if reply.counted else []
        return [("x-compute-type", "gpu+optimized"), *counted]


def tei_server(
    *replies: Reply, kind: str = "embedding", **settings: int
) -> AbstractAsyncContextManager[ScriptedServer]:
    return serving(TeiDialect(kind, **settings), *replies)
