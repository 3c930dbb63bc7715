"""No router: the model, asked through the HTTP client that our router has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from bench.callers import Ask
from bench.instant_model import answer_to
from bench.subjects import Asking, Setup, messages

_LIMITS = {"connect": 5.0, "pool": 5.0}


@asynccontextmanager
async def opened(setup: Setup) -> AsyncIterator[Asking]:
    url = httpx.URL(f"http://127.0.0.1:{setup.primary}/v1/chat/completions")
    async with AiohttpTransport(client=_session) as transport:

        async def read(question: str, stream: bool) -> str:
            answer = await transport.handle_async_request(_request(url, question, stream))
            try:
                body = b"".join([chunk async for chunk in answer.stream])  # type: ignore[union-attr]
            finally:
                await answer.aclose()
            return _streamed(body) if stream else _whole(body)

        def asking(stream: bool) -> Ask:
            async def ask(question: str) -> str:
                said = await read(question, stream)
                return "" if said == answer_to(question) else said or "nothing"

            return ask

        yield asking


def _session() -> aiohttp.ClientSession:
    connector = aiohttp.TCPConnector(limit=0)
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _request(url: httpx.URL, question: str, stream: bool) -> httpx.Request:
    body = {"model": "instant", "messages": messages(question), "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    headers = {"host": url.netloc.decode(), "content-type": "application/json"}
    headers |= {"accept-encoding": "identity", "authorization": "Bearer not-needed"}
    return httpx.Request(
        "POST", url, headers=headers, content=orjson.dumps(body), extensions={"timeout": _LIMITS}
    )


def _whole(body: bytes) -> str:
    return str(orjson.loads(body)["choices"][0]["message"]["content"])


def _streamed(body: bytes) -> str:
    events = [line[6:] for line in body.split(b"\n") if line.startswith(b"data: {")]
    choices = [choice for event in events for choice in orjson.loads(event)["choices"]]
    return "".join(choice["delta"].get("content", "") for choice in choices)
