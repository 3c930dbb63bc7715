"""A scripted Azure OpenAI: both forms of its addresses, and what its content filter adds."""

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import orjson

from tests.scripted.http_server import Asked, Reply, ScriptedServer, refuses, serving
from tests.scripted.openai_server import OpenAIDialect
from tests.scripted.openai_texts import embeddings

_V1 = re.compile(r"/openai/v1/chat/completions(\?api-version=(v1|preview))?")
_DATED = re.compile(
    r"/openai/deployments/[^/?]+/chat/completions\?api-version=\d{4}-\d{2}-\d{2}(-preview)?"
)
_MODELS = re.compile(r"/openai/(v1/models|models\?api-version=\d{4}-\d{2}-\d{2}(-preview)?)")
_SAFE = {"filtered": False, "severity": "safe"}
_RESULTS = {"hate": _SAFE, "self_harm": _SAFE, "sexual": _SAFE, "violence": _SAFE}
_PROMPT = [{"prompt_index": 0, "content_filter_results": _RESULTS}]


class AzureDialect(OpenAIDialect):
    prefix = ""
    chat = "/openai/v1/chat/completions"
    posts: ClassVar = {
        "/openai/v1/embeddings": embeddings,
        "/openai/deployments/m/embeddings?api-version=2024-10-21": embeddings,
    }

    def accepts(self, path: str) -> bool:
        return bool(_V1.fullmatch(path) or _DATED.fullmatch(path))

    def objection(self, asked: Asked) -> Reply | None:
        """Dated versions of the API do not know the word of the v1 API."""
        if _DATED.fullmatch(asked.path) and "max_completion_tokens" in asked.body:
            return refuses(400, "Unrecognized request argument supplied: max_completion_tokens")
        return None

    def whole(self, reply: Reply, asked: Any) -> Any:
        answer = super().whole(reply, asked)
        answer["choices"][0]["content_filter_results"] = _RESULTS
        return {**answer, "prompt_filter_results": _PROMPT}

    def pieces(self, reply: Reply, asked: Any) -> Sequence[bytes]:
        """The verdict on the prompt comes first, in an event of its own without a model."""
        verdict = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
        first = orjson.dumps({**verdict, "prompt_filter_results": _PROMPT})
        return [b"data: " + first + b"\n\n", *super().pieces(reply, asked)]

    def refused(self, reply: Reply) -> Any:
        error = {"code": reply.code or str(reply.status), "message": reply.error}
        if reply.code == "content_filter":
            results = {**_RESULTS, "violence": {"filtered": True, "severity": "medium"}}
            inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": results}
            error |= {"type": None, "param": "prompt", "status": 400, "innererror": inner}
        return {"error": error}

    def get(self, path: str) -> Any:
        if not _MODELS.fullmatch(path):
            return None
        return {"object": "list", "data": [{"id": "gpt-4.1-mini", "object": "model"}]}


def azure_server(*replies: Reply) -> AbstractAsyncContextManager[ScriptedServer]:
    return serving(AzureDialect(), *replies)
