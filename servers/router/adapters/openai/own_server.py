"""Model servers that people run themselves: what vLLM, llama.cpp and TGI have in common."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import orjson

from servers.kernel.errors import AstromeshError, NotReady
from servers.router.adapters.failures import garbage
from servers.router.adapters.http import Call, Http, loads, url
from servers.router.adapters.openai.compat import OpenAICompat
from servers.router.adapters.streaming import MISSHAPEN
from servers.router.ports import Ask


class OwnServer(OpenAICompat, ABC):
    """OpenAI's chats below /v1, a health of its own, and something to tell about its model.

    What it told is known from the first `health` on; before that, and where it tells
    nothing, its capabilities are those of its type.
    """

    about: ClassVar[str]  # the path that tells

    def __init__(self, endpoint: str, http: Http) -> None:
        super().__init__(endpoint, http)
        self._root = self._base.removesuffix("/v1")

    async def health(self, api_key: str) -> None:
        with suppress(NotReady):  # there, though it wants another key
            await self._get(self._root + "/health", api_key)
        with suppress(AstromeshError, *MISSHAPEN):
            self._learn(orjson.loads(await self._get(self._root + self.about, api_key)))

    @abstractmethod
    def _learn(self, told: Any) -> None:
        """Remember what `about` answered. May raise what walking through odd JSON raises."""

    async def _told(self, path: str, ask: Ask, body: Any) -> tuple[Any, Call]:
        """What a question besides chats is answered with."""
        address = url(self._root + path)
        call = Call(address, self.endpoint, orjson.dumps(body), ask.api_key)
        return loads(await self._http.fetch(call, ask.timeouts), call), call


def found(answer: Any, call: Call, field: str) -> Any:
    """A field of an answer. One without it is not understood."""
    if not isinstance(answer, Mapping) or field not in answer:
        raise garbage(call.base, f"answered no {field}")
    return answer[field]
