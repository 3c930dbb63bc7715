"""Everything that speaks OpenAI's chat completions: OpenAI, vLLM, llama.cpp, gateways."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any

import httpx

from servers.domain.chat import Completion, Step
from servers.domain.models import Capabilities
from servers.kernel.errors import NotReady
from servers.router.adapters import openai_texts
from servers.router.adapters import openai_wire as wire
from servers.router.adapters.failures import garbage, in_stream
from servers.router.adapters.http import Call, Http, loads, url
from servers.router.adapters.streaming import MISSHAPEN, streamed
from servers.router.ports import Ask, EmbedAsk, Embedded, Timeouts

_CHAT = "/chat/completions"
_EMBEDDINGS = "/embeddings"
_FIELDS = (b"event:", b"id:", b"retry:", b":")  # of server-sent events, without meaning here
_PROBE = Timeouts(total=5.0)


class OpenAICompat:
    encoding: openai_texts.Encoding = "float"  # of embeddings; what every server has

    def __init__(self, endpoint: str, http: Http) -> None:
        self.endpoint = endpoint
        self._http = http
        self._base = _base(url(endpoint))
        self._url = url(self._base + _CHAT)

    async def complete(self, ask: Ask) -> Completion:
        call = self._call(ask, stream=False)
        answer = loads(await self._http.fetch(call, ask.timeouts), call)
        if isinstance(answer, Mapping) and answer.get("error"):
            raise in_stream(call.base, answer["error"], ask.api_key)
        try:
            return wire.completion(answer, ask)
        except MISSHAPEN:
            raise garbage(call.base, "answered no completion") from None

    def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        call = self._call(ask, stream=True)
        return streamed(self._http, call, ask.timeouts, wire.Streamed(ask), _event)

    async def embed(self, ask: EmbedAsk) -> Embedded:
        def call_of(body: bytes) -> Call:
            return Call(url(self._base + _EMBEDDINGS), self.endpoint, body, ask.api_key)

        return await openai_texts.embed(self._http, ask, call_of, self.encoding)

    async def health(self, api_key: str) -> None:
        call = Call(url(self._base + "/models"), self.endpoint, b"", api_key, "GET")
        # A server without this list, or one that wants another key, is there all the same.
        with suppress(NotReady):
            await self._http.fetch(call, _PROBE)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities()

    def _call(self, ask: Ask, stream: bool) -> Call:
        return Call(self._url, self.endpoint, wire.request(ask, stream), ask.api_key)


class OpenAI(OpenAICompat):
    """OpenAI itself."""

    encoding = "base64"


def _event(line: bytes, call: Call) -> Mapping[str, Any] | None:
    """The JSON of a data line, DONE at the end marker, None for what has no meaning here."""
    if line.startswith(b"data:"):
        data = line[5:].strip()
        if data == b"[DONE]":
            return wire.DONE
        event = loads(data, call)
        if not isinstance(event, Mapping):
            raise garbage(call.base, "sent no piece of a chat", line, call.api_key)
        if event.get("error"):
            raise in_stream(call.base, event["error"], call.api_key)
        return event
    if line.startswith(b"error:"):  # older llama.cpp
        raise in_stream(call.base, loads(line[6:].strip(), call), call.api_key)
    if line.startswith(_FIELDS):
        return None
    raise garbage(call.base, "sent no server-sent event", line, call.api_key)


def _base(endpoint: httpx.URL) -> str:
    """http://host, http://host/v1 and the full address of the chat all mean the same."""
    text = str(endpoint).rstrip("/").removesuffix(_CHAT).removesuffix(_EMBEDDINGS)
    return text + "/v1" if endpoint.path in ("", "/") else text
