"""A scripted server that speaks Ollama's /api/chat and /api/embed, as seen on the wire."""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar

import orjson

from tests.scripted.http_server import Reply, Said, ScriptedServer, serving
from tests.scripted.texts import length_of, rows, tokens, vector_for, with_faults


def embeddings(reply: Reply, asked: Any) -> Said:
    """POST /api/embed."""
    texts = asked["input"]
    found = [list(vector_for(text, length_of(reply, asked.get("dimensions")))) for text in texts]
    times = {"total_duration": 14143917, "load_duration": 1019500}
    counted = {"prompt_eval_count": tokens(texts)} if reply.counted else {}
    shown = rows(reply, with_faults(reply, found))
    return Said({"model": asked["model"], "embeddings": shown, **times, **counted})


class OllamaDialect:
    prefix = ""
    chat = "/api/chat"
    stream_type = "application/x-ndjson"
    posts: ClassVar = {"/api/embed": embeddings}

    def whole(self, reply: Reply, asked: Any) -> Any:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.pieces)}
        if reply.reasoning:
            message["thinking"] = "".join(reply.reasoning)
        if reply.calls:
            message["tool_calls"] = self._calls(reply)
        return {**self._head(asked), "message": message, **self._done(reply)}

    def pieces(self, reply: Reply, asked: Any) -> Sequence[bytes]:
        said: list[dict[str, Any]] = [{"content": "", "thinking": t} for t in reply.reasoning]
        said += [{"content": piece} for piece in reply.pieces]
        if reply.calls:
            said.append({"content": "", "tool_calls": self._calls(reply)})
        return [self._line(asked, message, {"done": False}) for message in said]

    def end(self, reply: Reply, asked: Any) -> bytes:
        return self._line(asked, {"content": ""}, self._done(reply))

    def error(self, reply: Reply) -> bytes:
        return orjson.dumps({"error": reply.error}) + b"\n"

    def get(self, path: str) -> Any:
        return {"version": "0.12.0"} if path == "/api/version" else None

    def refused(self, reply: Reply) -> Any:
        return {"error": reply.error}

    def _calls(self, reply: Reply) -> list[dict[str, Any]]:
        """Ollama sends whole calls, with arguments as objects, and no ids."""
        return [
            {"function": {"name": call.name, "arguments": orjson.loads(call.arguments or "{}")}}
            for call in reply.calls
        ]

    def _line(self, asked: Any, message: dict[str, Any], rest: dict[str, Any]) -> bytes:
        said = {"role": "assistant", **message}
        return orjson.dumps({**self._head(asked), "message": said, **rest}) + b"\n"

    def _head(self, asked: Any) -> dict[str, Any]:
        return {"model": asked["model"], "created_at": "2026-11-22T12:00:00.000000Z"}

    def _done(self, reply: Reply) -> dict[str, Any]:
        counted = {"prompt_eval_count": reply.prompt_tokens, "eval_count": reply.completion_tokens}
        return {"done": True, "done_reason": reply.reason, **(counted if reply.counted else {})}


def ollama_server(*replies: Reply) -> AbstractAsyncContextManager[ScriptedServer]:
    return serving(OllamaDialect(), *replies)
