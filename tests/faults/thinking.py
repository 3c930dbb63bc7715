"""A model that says what the conversation so far asks for, whoever asks and however often.

Runs of several processes can share it: it keeps no count of its own.
"""

import asyncio
import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.scripted.http_server import Asked, Call, Reply, ScriptedServer, serving
from tests.scripted.openai_server import OpenAIDialect


class Thinking(OpenAIDialect):
    def __init__(self, think: Callable[[Asked], Reply]) -> None:
        self._think = think

    def objection(self, asked: Asked) -> Reply:
        return self._think(asked)


def thinking(think: Callable[[Asked], Reply]) -> AbstractAsyncContextManager[ScriptedServer]:
    return serving(Thinking(think))


def mails(
    steps: int,
    pieces: tuple[str, ...] = ("All ", "sent"),
    pause: Callable[[], float] = lambda: 0.0,
    hold: asyncio.Event | None = None,
) -> Callable[[Asked], Reply]:
    """Sends so many mails, one after the other, each to an address of its own; then answers.

    `pause`: seconds before each piece of what it says; `hold`: what its answer waits for."""

    def think(asked: Asked) -> Reply:
        query, done = _state(asked.body["messages"])
        if done < steps:
            to = json.dumps({"to": f"{query}-{done}"})
            calls = [Call("send_mail", to, f"c{done}")]
            return Reply(("Well ",), calls=calls, pause=pause())
        return Reply(pieces, pause=pause(), hold=hold)

    return think


def _state(messages: list[dict[str, Any]]) -> tuple[str, int]:
    """What was asked, and how many tools have answered."""
    query = next(m["content"] for m in messages if m["role"] == "user")
    return query, sum(m["role"] == "tool" for m in messages)
