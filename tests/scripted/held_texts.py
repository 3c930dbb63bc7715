"""A server of embeddings that keeps certain texts until a test lets it go on."""

import asyncio
from contextlib import AbstractAsyncContextManager

from tests.scripted.http_server import Asked, Reply, ScriptedServer, serving
from tests.scripted.openai_server import OpenAIDialect


class HeldTexts(OpenAIDialect):
    def __init__(self, held: dict[str, asyncio.Event]) -> None:
        self._held = held

    def objection(self, asked: Asked) -> Reply:
        texts = asked.body["input"]
        holds = (event for words, event in self._held.items() if any(words in t for t in texts))
        return Reply(hold=next(holds, None))


def held_texts(held: dict[str, asyncio.Event]) -> AbstractAsyncContextManager[ScriptedServer]:
    """A text with one of these words in it is answered once their event is set."""
    return serving(HeldTexts(held))


def embeds_with(model: ScriptedServer) -> dict[str, str]:
    """What a pipeline says that has its vectors from there."""
    return {"provider": "openai_compat", "endpoint": model.endpoint, "model": "m"}
