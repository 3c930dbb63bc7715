"""A scripted vLLM, as of 0.32: its health, models, token counts, and what it adds to chats."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any, ClassVar

from tests.scripted.http_server import Asked, Reply, Said, ScriptedServer, Then, refuses, serving
from tests.scripted.openai_server import OpenAIDialect

WINDOW = 16384


def _tokenize(reply: Reply, asked: Any) -> Said:
    count = reply.prompt_tokens
    shown = {"count": count, "max_model_len": WINDOW, "tokens": list(range(count))}
    return Said({**shown, "token_strs": None})


class VllmDialect(OpenAIDialect):
    thoughts = "reasoning"
    posts: ClassVar = {**OpenAIDialect.posts, "/tokenize": _tokenize}

    def objection(self, asked: Asked) -> Reply | None:
        body = asked.body
        if body.get("tools") == []:
            return refuses(400, "`tools` must not be an empty array.")
        if "stream_options" in body and not body.get("stream"):
            return refuses(400, "Stream options can only be defined when `stream=True`.")
        return None

    def whole(self, reply: Reply, asked: Any) -> Any:
        answer = super().whole(reply, asked)
        answer["choices"][0] |= {"stop_reason": None, "token_ids": None}
        return {**answer, "prompt_logprobs": None, "kv_transfer_params": None}

    def pieces(self, reply: Reply, asked: Any) -> Sequence[bytes]:
        return super().pieces(replace(reply, pieces=self._split(reply)[0]), asked)

    def end(self, reply: Reply, asked: Any) -> bytes:
        """The last piece of a text comes with the reason to stop."""
        last, usual = self._split(reply)[1], super().end(reply, asked)
        if not last:
            return usual
        _, *rest = usual.split(b"\n\n")
        delta = {"content": last[0]}
        return self._event(asked, delta, self._reason(reply)) + b"\n\n".join(rest)

    def get(self, path: str) -> Any:
        if path == "/health":
            return b""
        if path != "/v1/models":
            return None
        card = {"id": "m", "object": "model", "owned_by": "vllm", "root": "/models/m"}
        return {"object": "list", "data": [{**card, "parent": None, "max_model_len": WINDOW}]}

    def refused(self, reply: Reply) -> Any:
        kind = "BadRequestError" if reply.status < 500 else "InternalServerError"
        shown = {"message": reply.error, "type": kind, "param": None, "code": reply.status}
        return {"error": shown}

    def _split(self, reply: Reply) -> tuple[Sequence[str], Sequence[str]]:
        """The pieces of a text, and apart from them the last one of a text that ends well."""
        whole = reply.then is Then.END and not reply.calls
        at = len(reply.pieces) - 1 if whole and reply.pieces else len(reply.pieces)
        return reply.pieces[:at], reply.pieces[at:]

    def _event(self, asked: Any, delta: dict[str, Any], reason: str | None = None) -> bytes:
        """Each with a count, for who wants it all the time."""
        event = super()._event(asked, delta, reason)
        if not (asked.get("stream_options") or {}).get("continuous_usage_stats"):
            return event
        so_far = b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2},"choices"'
        return event.replace(b'"choices"', so_far, 1)


def vllm_server(*replies: Reply) -> AbstractAsyncContextManager[ScriptedServer]:
    return serving(VllmDialect(), *replies)
