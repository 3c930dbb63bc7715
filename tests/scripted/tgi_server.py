"""A scripted Text Generation Inference, as of version 3: its own errors and grammars."""

from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import orjson

from tests.scripted.http_server import Asked, Reply, Said, ScriptedServer, refuses, serving
from tests.scripted.openai_server import OpenAIDialect

WINDOW = 4096
_GRAMMARS = ("json", "json_object", "regex")  # with a `value`
_TYPES = {422: "validation", 424: "generation", 429: "overloaded"}


def _chat_tokenize(reply: Reply, asked: Any) -> Said:
    token = {"id": 1, "text": "x", "start": 0, "stop": 1}
    tokens = [token] * reply.prompt_tokens
    return Said({"tokenize_response": tokens, "templated_text": "x" * reply.prompt_tokens})


class TgiDialect(OpenAIDialect):
    prefix = ""
    posts: ClassVar = {"/chat_tokenize": _chat_tokenize}

    def objection(self, asked: Asked) -> Reply | None:
        body, wanted = asked.body, asked.body.get("response_format")
        if body.get("top_p") is not None and not 0 < body["top_p"] < 1:
            return refuses(422, "Input validation error: `top_p` must be > 0.0 and < 1.0")
        if wanted and body.get("tools"):
            return refuses(422, "Grammar and tools are mutually exclusive")
        if wanted and (wanted["type"] not in _GRAMMARS or "value" not in wanted):
            return refuses(422, "Failed to deserialize the JSON body into the target type")
        return None

    def error(self, reply: Reply) -> bytes:
        shown = {"error": reply.error, "error_type": reply.code or "generation"}
        return b"data: " + orjson.dumps(shown) + b"\n\n"

    def get(self, path: str) -> Any:
        if path == "/health":
            return b""
        if path != "/info":
            return None
        shown = {"model_id": "m", "max_concurrent_requests": 128, "max_stop_sequences": 4}
        return {**shown, "max_input_tokens": WINDOW - 1, "max_total_tokens": WINDOW}

    def refused(self, reply: Reply) -> Any:
        return {"error": reply.error, "error_type": _TYPES.get(reply.status, "unknown")}

    def _reason(self, reply: Reply) -> str:
        """A call ends like a text, at the end of its sequence."""
        return reply.reason

    def _usage(self, reply: Reply) -> dict[str, Any]:
        usage = super()._usage(reply)
        for counted in usage.values():
            counted.pop("prompt_tokens_details")
        return usage


def tgi_server(*replies: Reply) -> AbstractAsyncContextManager[ScriptedServer]:
    return serving(TgiDialect(), *replies)
