"""A scripted llama.cpp server, as its build of October 2026 speaks, or as older ones did."""

from contextlib import AbstractAsyncContextManager
from typing import Any

import orjson

from tests.scripted.http_server import Asked, Reply, Said, ScriptedServer, refuses, serving
from tests.scripted.openai_server import OpenAIDialect

WINDOW = 8192


def _input_tokens(reply: Reply, asked: Any) -> Said:
    return Said({"input_tokens": reply.prompt_tokens, "object": "response.input_tokens"})


def _apply_template(reply: Reply, asked: Any) -> Said:
    prompt = "".join(f"<|{each['role']}|>{each['content']}" for each in asked["messages"])
    return Said({"prompt": prompt + "<|assistant|>"})


def _tokenize(reply: Reply, asked: Any) -> Said:
    """A token each word, and one for the beginning where special ones are wanted."""
    words = len(asked["content"].split()) + bool(asked.get("add_special"))
    return Said({"tokens": list(range(words))})


class LlamaCppDialect(OpenAIDialect):
    """`tools`, `vision`: what the loaded model can do. `old`: before 2026."""

    prefix = ""

    def __init__(self, tools: bool = True, vision: bool = False, old: bool = False) -> None:
        self._tools, self._vision, self._old = tools, vision, old
        self.posts = {"/apply-template": _apply_template, "/tokenize": _tokenize}
        self.posts |= OpenAIDialect.posts
        if not old:
            self.posts["/v1/chat/completions/input_tokens"] = _input_tokens

    def objection(self, asked: Asked) -> Reply | None:
        body = asked.body
        if "grammar" in body and body.get("tools"):
            return refuses(400, "Cannot use custom grammar constraints with tools.")
        if "grammar" in body and "json_schema" in body:
            return refuses(400, 'Either "json_schema" or "grammar" can be specified, not both')
        return None

    def whole(self, reply: Reply, asked: Any) -> Any:
        return {**super().whole(reply, asked), **self._timings(reply)}

    def end(self, reply: Reply, asked: Any) -> bytes:
        if not self._old:
            return super().end(reply, asked)
        choice = {"index": 0, "delta": {}, "finish_reason": self._reason(reply)}
        last = {**self._head(asked), "choices": [choice], **self._timings(reply)}
        return b"data: " + orjson.dumps(last) + b"\n\ndata: [DONE]\n\n"

    def error(self, reply: Reply) -> bytes:
        return b"error: " + orjson.dumps(self.refused(reply)["error"]) + b"\n\n"

    def get(self, path: str) -> Any:
        if path == "/health":
            return {"status": "ok"}
        if path != "/props":
            return None
        return {
            "default_generation_settings": {"params": {"top_k": 40}, "n_ctx": WINDOW},
            "total_slots": 4,
            "modalities": {"vision": self._vision, "audio": False},
            "chat_template_caps": {"supports_tools": self._tools},
        }

    def refused(self, reply: Reply) -> Any:
        kind = "invalid_request_error" if reply.status < 500 else "server_error"
        return {"error": {"code": reply.status, "message": reply.error, "type": kind}}

    def _usage(self, reply: Reply) -> dict[str, Any]:
        return {} if self._old else super()._usage(reply)

    def _timings(self, reply: Reply) -> dict[str, Any]:
        if not reply.counted:
            return {}
        fresh = reply.prompt_tokens - reply.cached_tokens
        shown = {"cache_n": reply.cached_tokens, "prompt_n": fresh, "prompt_ms": 29.126}
        return {"timings": {**shown, "predicted_n": reply.completion_tokens, "predicted_ms": 73.6}}


def llamacpp_server(*replies: Reply, **about: bool) -> AbstractAsyncContextManager[ScriptedServer]:
    return serving(LlamaCppDialect(**about), *replies)
