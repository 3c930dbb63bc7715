"""Everything that speaks OpenAI's API: OpenAI itself, gateways, other servers."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import httpx
import orjson

from servers.domain.chat import Completion, Step
from servers.domain.models import Capabilities
from servers.kernel.errors import NotReady
from servers.router.adapters.failures import garbage, in_stream
from servers.router.adapters.http import Call, Http, loads, url
from servers.router.adapters.openai import request as openai_request
from servers.router.adapters.openai import texts as openai_texts
from servers.router.adapters.openai import wire as openai_wire
from servers.router.adapters.openai.answer_schema import for_objects
from servers.router.adapters.openai.request import PLAIN, Words
from servers.router.adapters.streaming import MISSHAPEN, streamed
from servers.router.ports import Ask, EmbedAsk, Embedded, Timeouts

CHAT = "/chat/completions"
_EMBEDDINGS = "/embeddings"
_PROBE = Timeouts(total=5.0)
_FIELDS = (b"event:", b"id:", b"retry:", b":")  # of server-sent events, without meaning here


class OpenAICompat:
    """A server of which only the API is known."""

    words: ClassVar[Words] = PLAIN
    key_header: ClassVar = ""  # as in `Call`
    encoding: openai_texts.Encoding = "float"  # of embeddings; what every server has

    def __init__(self, endpoint: str, http: Http) -> None:
        self.endpoint = endpoint
        self._http = http
        self._base = base_of(url(endpoint))
        self._url = url(self._base + CHAT)

    async def complete(self, ask: Ask) -> Completion:
        call = self._chat(ask, stream=False)
        answer = loads(await self._http.fetch(call, ask.timeouts), call)
        if isinstance(answer, Mapping) and answer.get("error"):
            raise in_stream(call.base, answer, ask.api_key)
        try:
            return openai_wire.completion(answer, ask)
        except MISSHAPEN:
            raise garbage(call.base, "answered no completion") from None

    def stream(self, ask: Ask) -> AsyncGenerator[Step, None]:
        call = self._chat(ask, stream=True)
        return streamed(self._http, call, ask.timeouts, openai_wire.Streamed(ask), _event)

    async def embed(self, ask: EmbedAsk) -> Embedded:
        where = self._where(_EMBEDDINGS, ask.model)

        def call_of(body: bytes) -> Call:
            return Call(where, self.endpoint, body, ask.api_key, key_header=self.key_header)

        return await openai_texts.embed(self._http, ask, call_of, self.encoding)

    async def health(self, api_key: str) -> None:
        # A server without this list, or one that wants another key, is there all the same.
        with suppress(NotReady):
            await self._get(self._base + "/models", api_key)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities()

    async def _get(self, address: str, api_key: str) -> bytes:
        call = Call(url(address), self.endpoint, b"", api_key, "GET", self.key_header)
        return await self._http.fetch(call, _PROBE)

    def _chat(self, ask: Ask, stream: bool) -> Call:
        where, body = self._where(CHAT, ask.model), orjson.dumps(self._body(ask, stream))
        return Call(where, self.endpoint, body, ask.api_key, key_header=self.key_header)

    def _where(self, path: str, model: str) -> httpx.URL:
        return self._url if path == CHAT else url(self._base + path)

    def _body(self, ask: Ask, stream: bool) -> dict[str, Any]:
        return openai_request.body(ask, stream, self.words)


class OpenAI(OpenAICompat):
    """OpenAI itself."""

    encoding = "base64"
    words = Words("max_completion_tokens", schema=for_objects, schema_beside_tools=True)

    def capabilities(self, model: str) -> Capabilities:
        return Capabilities(json_schema=True)


def base_of(endpoint: httpx.URL) -> str:
    """http://host, http://host/v1 and the full address of the chat all mean the same."""
    text = str(endpoint).rstrip("/").removesuffix(CHAT).removesuffix(_EMBEDDINGS)
    return text + "/v1" if endpoint.path in ("", "/") else text


def _event(line: bytes, call: Call) -> Mapping[str, Any] | None:
    """The JSON of a data line, DONE at the end marker, None for what has no meaning here."""
    if line.startswith(b"data:"):
        data = line[5:].strip()
        if data == b"[DONE]":
            return openai_wire.DONE
        event = loads(data, call)
        if not isinstance(event, Mapping):
            raise garbage(call.base, "sent no piece of a chat", line, call.api_key)
        if event.get("error"):
            raise in_stream(call.base, event, call.api_key)
        return event
    if line.startswith(b"error:"):  # older llama.cpp
        raise in_stream(call.base, {"error": loads(line[6:].strip(), call)}, call.api_key)
    if line.startswith(_FIELDS):
        return None
    raise garbage(call.base, "sent no server-sent event", line, call.api_key)
