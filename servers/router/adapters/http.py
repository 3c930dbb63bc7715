"""HTTP to model providers: one pool of kept connections, bounded in time and size.

Requests go straight to the transport, below `httpx.AsyncClient`: redirects, cookies and
retries are not wanted here, and the client costs more than the rest of a call (see
bench/http_transport.py). httpx-aiohttp carries them: a fifth of the CPU of httpx's own.
"""

import asyncio
import os
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import httpx
import orjson
from httpx_aiohttp import AiohttpTransport

from servers.kernel.errors import NotReady
from servers.kernel.telemetry import outgoing_headers
from servers.router.adapters.failures import garbage, refusal, retry_after
from servers.router.adapters.patience import Patience
from servers.router.ports import ProviderDown, Timeouts

MAX_BODY = 32 << 20  # bytes of a whole answer
MAX_LINE = 4 << 20  # bytes of one line of a stream
_MAX_ERROR = 64 << 10
_KEEP = 4.0  # seconds a connection is kept unused: less than uvicorn's 5, so that we close first
_BROKEN = (httpx.HTTPError, aiohttp.ClientError, OSError)
_STALE = 1.0  # seconds in which a connection that was closed before is found out


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a provider. `base` is what errors call the provider."""

    url: httpx.URL
    base: str
    body: bytes = b""
    api_key: str = field(default="", repr=False)
    method: str = "POST"
    key_header: str = ""  # what the key stands in; empty: Authorization, as a bearer's


class Http:
    """All connections to providers. Made by `open_http`, shared by all adapters."""

    def __init__(
        self,
        kept: httpx.AsyncBaseTransport,
        fresh: httpx.AsyncBaseTransport,
        clock: Callable[[], float],
    ) -> None:
        self._kept, self._fresh, self._clock = kept, fresh, clock

    async def fetch(self, call: Call, timeouts: Timeouts) -> bytes:
        """The whole body of a 200; every other outcome raises."""
        return (await self.exchange(call, timeouts))[1]

    async def exchange(self, call: Call, timeouts: Timeouts) -> tuple[httpx.Headers, bytes]:
        """The same, with the headers before it."""
        patience = Patience(timeouts)
        try:
            async with patience.whole():
                answer = await self._open(call, timeouts)
                try:
                    return answer.headers, await _body(answer, call)
                finally:
                    await answer.aclose()
        except TimeoutError:
            raise patience.gone(call.base, whole=True) from None

    async def lines(self, call: Call, patience: Patience) -> AsyncGenerator[bytes, None]:
        """The body of a 200, line by line as they arrive; empty lines are left out.

        Closing it closes the connection at once, unless the body has been read to its end.
        """
        answer: httpx.Response | None = None
        try:
            async with patience.piece():
                answer = await self._open(call, patience.timeouts)
            async with aclosing(_lines(answer, call, patience)) as lines:
                async for line in lines:
                    yield line
        except TimeoutError:
            raise patience.gone(call.base) from None
        finally:
            if answer is not None:
                await answer.aclose()

    async def _open(self, call: Call, timeouts: Timeouts) -> httpx.Response:
        answer = await self._send(call, timeouts)
        if answer.status_code == 200:
            return answer
        try:
            pause = retry_after(answer.headers.get("retry-after", ""), self._clock)
            said = await _error_body(answer)
            raise refusal(call.base, answer.status_code, said, call.api_key, pause)
        finally:
            await answer.aclose()

    async def _send(self, call: Call, timeouts: Timeouts) -> httpx.Response:
        """Once more on a new connection, where a kept one turns out to be closed already.

        llama.cpp promises to keep connections and closes each after a stream. The transport
        can tell a kept connection from a new one only at a price (tracing, 20 us a call), so
        time tells: who closes without a word that fast has not begun to think.
        """
        began = asyncio.get_running_loop().time()
        try:
            return await self._kept.handle_async_request(_request(call, timeouts))
        except _BROKEN as error:
            late = asyncio.get_running_loop().time() - began > _STALE
            if late or not _closed(error):
                raise _broken(call, error) from error
        try:
            return await self._fresh.handle_async_request(_request(call, timeouts))
        except _BROKEN as error:
            raise _broken(call, error) from error


@asynccontextmanager
async def open_http(clock: Callable[[], float] = time.time) -> AsyncIterator[Http]:
    """`clock` tells the time of day, for providers that name the hour to come back."""
    secure = httpx.create_ssl_context()
    kept = AiohttpTransport(verify=secure, client=lambda: _session(secure, keep=True))
    fresh = AiohttpTransport(verify=secure, client=lambda: _session(secure, keep=False))
    async with kept, fresh:
        yield Http(kept, fresh, clock)


def url(address: str) -> httpx.URL:
    """Raises NotReady for what is no http address."""
    try:
        parsed = httpx.URL(address)
    except httpx.InvalidURL as wrong:
        raise NotReady(f"{address!r} is no http address", reason="ENDPOINT_WRONG") from wrong
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise NotReady(
            f"{address!r} is no http address: it needs http:// or https:// and a host",
            reason="ENDPOINT_WRONG",
        )
    return parsed


def loads(body: bytes, call: Call) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        raise garbage(call.base, "answered no JSON", body, call.api_key) from None


def _session(secure: ssl.SSLContext, keep: bool) -> aiohttp.ClientSession:
    # How many calls may run is decided above (agents, budgets), not by a full pool.
    connector = (
        aiohttp.TCPConnector(limit=0, ssl=secure, keepalive_timeout=_KEEP)
        if keep
        else aiohttp.TCPConnector(limit=0, ssl=secure, force_close=True)
    )
    return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())


def _closed(error: Exception) -> bool:
    """Whether the connection was there and then was not; refused ones never were."""
    cause = error.__cause__
    return isinstance(cause, aiohttp.ServerDisconnectedError | aiohttp.ClientOSError) and (
        not isinstance(cause, aiohttp.ClientConnectorError)
    )


def _request(call: Call, timeouts: Timeouts) -> httpx.Request:
    headers = {
        "host": call.url.netloc.decode(),
        "content-type": "application/json",
        "accept-encoding": "identity",  # tokens are small: unpacking them only delays
        **outgoing_headers(),  # the provider's spans join the trace
    }
    if call.key_header and call.api_key:
        headers[call.key_header] = call.api_key
    elif call.api_key:
        headers["authorization"] = f"Bearer {call.api_key}"
    limits = {"connect": timeouts.connect, "pool": timeouts.connect}
    return httpx.Request(
        call.method, call.url, headers=headers, content=call.body, extensions={"timeout": limits}
    )


async def _body(answer: httpx.Response, call: Call) -> bytes:
    chunks, size = [], 0
    async for chunk in _chunks(answer, call):
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            raise garbage(call.base, f"answered more than {MAX_BODY} bytes")
    return b"".join(chunks)


async def _error_body(answer: httpx.Response) -> bytes:
    """As much of it as is needed to say what is wrong; an error without a text is one too."""
    body = b""
    try:
        async with asyncio.timeout(5):
            async for chunk in _raw(answer):
                body += chunk
                if len(body) > _MAX_ERROR:
                    break
    except (TimeoutError, *_BROKEN):
        pass
    return body


async def _lines(
    answer: httpx.Response, call: Call, patience: Patience
) -> AsyncGenerator[bytes, None]:
    begun: list[bytes] = []  # of a line whose end has not come yet
    size = 0
    chunks = _chunks(answer, call)
    while True:
        async with patience.piece():
            chunk = await anext(chunks, None)
        if chunk is None:
            break
        *whole, rest = chunk.split(b"\n")
        for line in whole:
            if begun:
                line, begun, size = b"".join((*begun, line)), [], 0
            if len(line) > MAX_LINE:
                raise garbage(call.base, f"sent a line of more than {MAX_LINE} bytes")
            if line := line.strip():
                yield line
        if rest:
            begun.append(rest)
            size += len(rest)
        if size > MAX_LINE:
            raise garbage(call.base, f"sent a line of more than {MAX_LINE} bytes")
    if last := b"".join(begun).strip():
        yield last


async def _chunks(answer: httpx.Response, call: Call) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in _raw(answer):
            yield chunk
    except _BROKEN as error:
        raise _broken(call, error) from error


def _raw(answer: httpx.Response) -> AsyncIterator[bytes]:
    stream = answer.stream
    assert isinstance(stream, httpx.AsyncByteStream)
    return aiter(stream)


def _broken(call: Call, error: Exception) -> ProviderDown:
    """The transport's name for an error may mislead (a reset is a "ConnectTimeout" to it)."""
    cause = error.__cause__ or error
    what = _unreached(cause) or str(cause) or type(cause).__name__
    return ProviderDown(f"{call.base}: {what}", reason="PROVIDER_UNREACHABLE")


def _unreached(cause: BaseException) -> str:
    """Why there is no connection. aiohttp's own sentence tells of its pool, too."""
    if not isinstance(cause, aiohttp.ClientConnectorError):
        return ""
    if isinstance(cause, aiohttp.ClientSSLError):  # says itself what is wrong with certificates
        return ""
    said = cause.os_error
    number = said.errno or 0  # names that don't resolve have negative ones
    return f"can't connect: {os.strerror(number) if number > 0 else said.strerror or said}"
