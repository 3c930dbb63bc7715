"""Which HTTP transport should carry the calls to model providers?

Compares httpx's own transport with httpx-aiohttp, each through `httpx.AsyncClient` and
called directly, against a server in another process that answers at once. All variants
are interleaved in one run. Prints CPU of this process per request, requests per second
and, for streams, how long after the server's own delay the first piece is there.

    python bench/http_transport.py [--seconds 2]
"""

import argparse
import asyncio
import gc
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, aclosing

import httpx
import orjson
import uvloop
from httpx_aiohttp import AiohttpTransport

PACE = 0.02  # seconds between two pieces of a stream
PIECES = 10
LIMITS = httpx.Limits(max_connections=256, max_keepalive_connections=256)
TIMEOUT = {"connect": 5.0, "read": 60.0, "write": 60.0, "pool": 5.0}
MESSAGES = [{"role": "user", "content": "Explain what a service mesh is. " * 8}]
ANSWER = {
    "id": "x",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "message": {"role": "assistant", "content": "A service mesh is a layer. " * 8},
        }
    ],
    "usage": {"prompt_tokens": 64, "completion_tokens": 56, "total_tokens": 120},
}

Call = Callable[[bytes, bool], Awaitable[float]]  # body, stream -> time of the first piece


class Instant(asyncio.Protocol):
    """Answers as fast as Python can; a path that ends in /stream is answered in pieces."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire, self._seen = transport, b""
        body = orjson.dumps(ANSWER)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        self._answer = head % len(body) + body

    def data_received(self, data: bytes) -> None:
        self._seen += data
        while (end := self._seen.find(b"\r\n\r\n")) >= 0:
            head = self._seen[:end].lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            if len(self._seen) < end + 4 + length:
                return
            self._seen = self._seen[end + 4 + length :]
            if b"/stream " in head:
                self._task = asyncio.ensure_future(self._stream())
            else:
                self._wire.write(self._answer)

    async def _stream(self) -> None:
        self._wire.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for number in range(PIECES):
            await asyncio.sleep(PACE)
            piece = b"data: %.6f %d\n\n" % (time.time(), number)
            self._wire.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self._wire.write(b"0\r\n\r\n")


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(Instant, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def through_client(url: str, transport: httpx.AsyncBaseTransport, stack: AsyncExitStack) -> Call:
    client = httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(60, connect=5))
    stack.push_async_callback(client.aclose)
    headers = {"content-type": "application/json", "authorization": "Bearer x"}

    async def call(body: bytes, stream: bool) -> float:
        if not stream:
            answer = await client.post(url, content=body, headers=headers)
            orjson.loads(answer.content)
            return 0.0
        async with client.stream("POST", url + "/stream", content=body, headers=headers) as answer:
            return await _first_piece(answer)

    return call


def direct(url: str, transport: httpx.AsyncBaseTransport, stack: AsyncExitStack) -> Call:
    stack.push_async_callback(transport.aclose)
    plain, streamed = httpx.URL(url), httpx.URL(url + "/stream")
    host = plain.netloc.decode()
    headers = {"host": host, "content-type": "application/json", "authorization": "Bearer x"}

    async def call(body: bytes, stream: bool) -> float:
        request = httpx.Request(
            "POST",
            streamed if stream else plain,
            content=body,
            headers=headers,
            extensions={"timeout": TIMEOUT},
        )
        answer = await transport.handle_async_request(request)
        try:
            if stream:
                return await _first_piece(answer)
            orjson.loads(await answer.aread())
            return 0.0
        finally:
            await answer.aclose()

    return call


async def _first_piece(answer: httpx.Response) -> float:
    """How long the first piece was under way, in seconds."""
    late = -1.0
    async with aclosing(answer.aiter_raw()) as chunks:  # type: ignore[type-var]
        async for chunk in chunks:
            if late < 0:
                late = time.time() - float(chunk.split()[1])
    return late


async def measure(call: Call, callers: int, seconds: float, stream: bool) -> dict[str, float]:
    body = orjson.dumps({"model": "m", "messages": MESSAGES, "stream": stream})
    end, done, late = time.perf_counter() + seconds, 0, []

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < end:
            late.append(await call(body, stream))
            done += 1

    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller() for _ in range(callers)))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    late.sort()
    return {
        "req/s": done / wall,
        "cpu_us": cpu / done * 1e6,
        "late_p50_ms": late[len(late) // 2] * 1e3,
        "late_p99_ms": late[int(len(late) * 0.99)] * 1e3,
    }


async def compare(url: str, seconds: float, rounds: int) -> None:
    async with AsyncExitStack() as stack:
        variants = {
            "httpx": through_client(url, httpx.AsyncHTTPTransport(limits=LIMITS), stack),
            "httpx-aiohttp": through_client(url, AiohttpTransport(limits=LIMITS), stack),
            "httpx, direct": direct(url, httpx.AsyncHTTPTransport(limits=LIMITS), stack),
            "httpx-aiohttp, direct": direct(url, AiohttpTransport(limits=LIMITS), stack),
        }
        for stream in (False, True):
            for callers in (1, 16, 64):
                best: dict[str, dict[str, float]] = {}
                for _ in range(rounds):
                    for name, call in variants.items():
                        found = await measure(call, callers, seconds / rounds, stream)
                        if name not in best or found["cpu_us"] < best[name]["cpu_us"]:
                            best[name] = found
                for name, found in best.items():
                    kind = "stream" if stream else "whole"
                    cells = "  ".join(f"{key} {value:9.2f}" for key, value in found.items())
                    print(f"{kind:6} callers {callers:3}  {name:22} {cells}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", action="store_true", help="be the server")
    parser.add_argument("--seconds", type=float, default=2.0, help="per variant and load")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.serve:
        uvloop.run(serve())
        return
    command = [sys.executable, __file__, "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        port = int(server.stdout.readline())
        try:
            uvloop.run(compare(f"http://127.0.0.1:{port}", asked.seconds, asked.rounds))
        finally:
            server.terminate()


if __name__ == "__main__":
    main()
