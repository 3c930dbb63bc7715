"""Ollama, by its own API: newline-separated JSON."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

from servers.domain.chat import Completion, Step
from servers.domain.models import Capabilities
from servers.router.adapters.failures import garbage, in_stream
from servers.router.adapters.http import Call, Http, loads, url
from servers.router.adapters.ollama import texts as ollama_texts
from servers.router.adapters.ollama import wire
from servers.router.adapters.streaming import MISSHAPEN, streamed
from servers.router.ports import Ask, EmbedAsk, Embedded, Timeouts

_PROBE = Timeouts(total=5.0)


class Ollama:
    def __init__(self, endpoint: str, http: Http, *, truncate: bool = False) -> None:
        """`truncate`: texts to embed that are too long are cut, instead of being refused."""
        self.endpoint = endpoint
        self._http = http
        self._truncate = truncate
        self._base = str(url(endpoint)).rstrip("/").removesuffix("/v1").removesuffix("/api")
        self._url = url(self._base + "/api/chat")

    async def complete(self, ask: Ask) -> Completion:
        call = self._call(ask, stream=False)
        answer = _event(await self._http.fetch(call, ask.timeouts), call)
        try:
            return wire.completion(answer, ask)
        except MISSHAPEN:
            raise garbage(call.base, "answered no completion") from None

    def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        call = self._call(ask, stream=True)
        return streamed(self._http, call, ask.timeouts, wire.Streamed(ask), _event)

    async def embed(self, ask: EmbedAsk) -> Embedded:
        where = Call(url(self._base + "/api/embed"), self.endpoint)
        return await ollama_texts.embed(self._http, ask, where, self._truncate)

    async def health(self, api_key: str) -> None:
        call = Call(url(self._base + "/api/version"), self.endpoint, b"", api_key, "GET")
        await self._http.fetch(call, _PROBE)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(json_schema=True)

    def _call(self, ask: Ask, stream: bool) -> Call:
        return Call(self._url, self.endpoint, wire.request(ask, stream), ask.api_key)


def _event(line: bytes, call: Call) -> Any:
    event = loads(line, call)
    if isinstance(event, Mapping) and event.get("error"):
        raise in_stream(call.base, event, call.api_key)
    return event
