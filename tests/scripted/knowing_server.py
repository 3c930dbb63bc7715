"""A scripted OpenAI server that answers by what it is asked, not by when."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from tests.scripted.http_server import Asked, Reply, ScriptedServer, serving
from tests.scripted.openai_server import OpenAIDialect


class KnowingDialect(OpenAIDialect):
    def __init__(self, answers: Mapping[str, Reply | list[Reply]]) -> None:
        self.answers = answers

    def objection(self, asked: Asked) -> Reply | None:
        """Of several replies each is given once, the last one again and again."""
        said = last_of(asked)
        for words, reply in self.answers.items():
            if words in said:
                if isinstance(reply, list):
                    return reply.pop(0) if len(reply) > 1 else reply[0]
                return reply
        return None


def last_of(asked: Any) -> str:
    """The last message of a request."""
    return asked.body["messages"][-1]["content"] or ""


def knowing_server(
    answers: Mapping[str, Reply | list[Reply]], otherwise: Reply
) -> AbstractAsyncContextManager[ScriptedServer]:
    """`answers`: the reply to a request whose last message has these words."""
    return serving(KnowingDialect(answers), otherwise)
