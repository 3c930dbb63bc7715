"""A scripted server that speaks OpenAI's API, exactly as seen on the wire."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import orjson

from tests.scripted import openai_texts
from tests.scripted.http_server import Reply, ScriptedServer, serving


class OpenAIDialect:
    prefix = "/v1"
    chat = "/v1/chat/completions"
    stream_type = "text/event-stream; charset=utf-8"
    posts: ClassVar = {
        "/v1/embeddings": openai_texts.embeddings,
        "/v1/rerank": openai_texts.ranking,
    }

    thoughts = "reasoning_content"

    def whole(self, reply: Reply, asked: Any) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.pieces) or None}
        if reply.refusal:
            message |= {"content": None, "refusal": reply.refusal}
        if reply.reasoning:
            message[self.thoughts] = "".join(reply.reasoning)
        if reply.calls:
            message["tool_calls"] = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in reply.calls
            ]
        choice = {"index": 0, "message": message, "finish_reason": self._reason(reply)}
        answer = {"id": "chatcmpl-1", "object": "chat.completion", "model": asked["model"]}
        return {**answer, "choices": [choice], **self._usage(reply)}

    def pieces(self, reply: Reply, asked: Any) -> Sequence[bytes]:
        """A first event with the role, then each piece; a tool call comes in fragments."""
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
        deltas += [{self.thoughts: piece} for piece in reply.reasoning]
        deltas += [{"refusal": reply.refusal}] * bool(reply.refusal)
        deltas += [{"content": piece} for piece in reply.pieces]
        for index, call in enumerate(reply.calls):
            half = len(call.arguments) // 2
            start = {"name": call.name, "arguments": ""}
            first = {"index": index, "id": call.id, "type": "function", "function": start}
            deltas.append({"tool_calls": [first]})
            for part in (call.arguments[:half], call.arguments[half:]):
                fragment = {"index": index, "function": {"arguments": part}}
                deltas.append({"tool_calls": [fragment]})
        return [b": keep-alive\n\n", *(self._event(asked, delta) for delta in deltas)]

    def end(self, reply: Reply, asked: Any) -> bytes:
        last = self._event(asked, {}, self._reason(reply))
        if reply.counted and asked.get("stream_options", {}).get("include_usage"):
            usage = {**self._head(asked), "choices": [], **self._usage(reply)}
            last += b"data: " + orjson.dumps(usage) + b"\n\n"
        return last + b"data: [DONE]\n\n"

    def error(self, reply: Reply) -> bytes:
        shown = {"message": reply.error, "type": "server_error", "code": reply.code or None}
        return b"data: " + orjson.dumps({"error": shown}) + b"\n\n"

    def get(self, path: str) -> Any:
        if path != f"{self.prefix}/models":
            return None
        return {"object": "list", "data": [{"id": "m", "object": "model"}]}

    def _event(self, asked: Any, delta: dict[str, Any], reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        return b"data: " + orjson.dumps({**self._head(asked), "choices": [choice]}) + b"\n\n"

    def _head(self, asked: Any) -> dict[str, Any]:
        return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": asked["model"]}

    def _reason(self, reply: Reply) -> str:
        return "tool_calls" if reply.calls and reply.reason == "stop" else reply.reason

    def _usage(self, reply: Reply) -> dict[str, Any]:
        if not reply.counted:
            return {}
        return {
            "usage": {
                "prompt_tokens": reply.prompt_tokens,
                "completion_tokens": reply.completion_tokens,
                "total_tokens": reply.prompt_tokens + reply.completion_tokens,
                "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
            }
        }


def openai_server(*replies: Reply, port: int = 0) -> AbstractAsyncContextManager[ScriptedServer]:
    return serving(OpenAIDialect(), *replies, port=port)
