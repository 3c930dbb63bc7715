"""Time to the first token of a model that streams 20 tokens 20 ms apart.

    python -m bench.first_token [--times 10] [--rounds 2] [--callers 1 16]

The model's own time, asked directly by httpx, next to the same through the mesh: by gRPC
StreamAgent, and as server-sent events through Envoy. Streams are read to their end and must
have arrived in pieces. Upstream's WebSocket is there for comparison.
"""

import argparse
import asyncio
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import orjson
import uvloop
from astromesh.agents.v1 import agent_service_pb2, agent_service_pb2_grpc

from bench import upstream
from bench.instant_model import answer_to
from bench.mesh import Mesh, mesh, write_config
from bench.processes import instant_model
from bench.report import console, table, write

PIECES, GAP = 20, 20  # milliseconds
DIRECT, THEIRS = "model itself", "upstream WebSocket"

Stream = Callable[[str], AsyncIterator[str]]  # question -> pieces of text
Way = Callable[[int, int], Awaitable[list["Seen"]]]  # callers, times


@dataclass(frozen=True, slots=True)
class Seen:
    first: float  # seconds
    whole: float
    pieces: int


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.first_token", description=__doc__)
    parser.add_argument("--times", type=int, default=10, help="streams of each caller and round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16])
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        port, _ = stack.enter_context(instant_model(folder, PIECES, GAP))
        config = write_config(folder, port)
        ours = stack.enter_context(mesh(config, folder))
        python = upstream.installed()
        theirs = None
        if python is None:
            console.print(upstream.SKIPPED)
        else:
            theirs = stack.enter_context(upstream.upstream(python, config, folder))
        seen = uvloop.run(_measured(port, ours, theirs, options))
    _tell(seen, options)


async def _measured(
    model: int, ours: Mesh, theirs: upstream.Upstream | None, options: argparse.Namespace
) -> dict[tuple[int, str], list[Seen]]:
    seen: dict[tuple[int, str], list[Seen]] = {}
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(httpx.AsyncClient(timeout=30))
        address = f"127.0.0.1:{ours.grpc_port}"
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        ways: dict[str, Way] = {
            DIRECT: _reading(_direct(client, model)),
            "mesh gRPC": _reading(_grpc(channel)),
            "mesh SSE through Envoy": _reading(_sse(client, ours.http_port)),
        }
        if theirs is not None:
            ways[THEIRS] = _upstream(theirs)
        for way in ways.values():
            await way(16, 1)  # warm up
        for callers in options.callers:
            for _ in range(options.rounds):
                for name, way in ways.items():
                    seen.setdefault((callers, name), []).extend(await way(callers, options.times))
    return seen


def _reading(stream: Stream) -> Way:
    async def one(number: int, times: int) -> list[Seen]:
        return [await _read(stream, f"question {number}-{asked}") for asked in range(times)]

    async def way(callers: int, times: int) -> list[Seen]:
        seen = await asyncio.gather(*(one(number, times) for number in range(callers)))
        return [each for part in seen for each in part]

    return way


async def _read(stream: Stream, question: str) -> Seen:
    began, first, texts = time.perf_counter(), 0.0, []
    async for text in stream(question):
        first = first or time.perf_counter() - began
        texts.append(text)
    if "".join(texts) != answer_to(question) or len(texts) < PIECES // 2:
        raise SystemExit(f"not a stream of the right answer: {texts!r}")
    return Seen(first, time.perf_counter() - began, len(texts))


def _direct(client: httpx.AsyncClient, port: int) -> Stream:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"

    async def stream(question: str) -> AsyncIterator[str]:
        messages = [{"role": "user", "content": question}]
        async with client.stream("POST", url, json={"stream": True, "messages": messages}) as got:
            async for line in got.aiter_lines():
                if line.startswith("data: {"):
                    for choice in orjson.loads(line[6:])["choices"]:
                        if text := choice["delta"].get("content"):
                            yield text

    return stream


def _grpc(channel: grpc.aio.Channel) -> Stream:
    stub = agent_service_pb2_grpc.AgentServiceStub(channel)

    async def stream(question: str) -> AsyncIterator[str]:
        request = agent_service_pb2.StreamAgentRequest(agent="bench", query=question)
        async for event in stub.StreamAgent(request):
            if event.WhichOneof("payload") == "text_delta":
                yield event.text_delta.text

    return stream


def _sse(client: httpx.AsyncClient, port: int) -> Stream:
    url = f"http://127.0.0.1:{port}/v1/agents/bench:stream"
    headers = {"accept": "text/event-stream"}

    async def stream(question: str) -> AsyncIterator[str]:
        body = {"query": question}
        async with client.stream("POST", url, json=body, headers=headers) as got:
            got.raise_for_status()
            async for line in got.aiter_lines():
                if line.startswith("data:"):
                    event = orjson.loads(line[5:])
                    if "text_delta" in event:
                        yield event["text_delta"]["text"]

    return stream


def _upstream(theirs: upstream.Upstream) -> Way:
    """Measured by a client in upstream's environment, which has a WebSocket client."""
    script = Path(__file__).with_name("upstream_stream.py")
    url = f"ws://127.0.0.1:{theirs.port}/v1/ws/agent/bench"

    async def way(callers: int, times: int) -> list[Seen]:
        command = [str(each) for each in (theirs.python, script, url, callers, times)]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        out, _ = await process.communicate()
        if process.returncode:
            raise SystemExit("the stream from upstream broke")
        return [Seen(*each) for each in orjson.loads(out)]

    return way


def _tell(seen: dict[tuple[int, str], list[Seen]], options: argparse.Namespace) -> None:
    rows, summary = [], []
    for (callers, name), group in seen.items():
        p50, p99 = _percentiles(group)
        base50, base99 = _percentiles(seen[callers, DIRECT])
        pieces = min(each.pieces for each in group)
        facts = {"way": name, "callers": callers, "p50_ms": p50, "p99_ms": p99, "pieces": pieces}
        facts |= {"added_p50_ms": p50 - base50, "added_p99_ms": p99 - base99, "of": len(group)}
        summary.append(facts)
        added = ("", "") if name == DIRECT else (f"{p50 - base50:+.2f}", f"{p99 - base99:+.2f}")
        rows.append(
            (name, str(callers), str(len(group)), str(pieces), f"{p50:.2f}", f"{p99:.2f}", *added)
        )
    columns = ("", "callers", "streams", "pieces", "p50 ms", "p99 ms", "added p50", "added p99")
    title = f"time to the first token; the model sends {PIECES}, {GAP} ms apart"
    table(title, columns, rows)
    write("first_token", {"options": vars(options), "summary": summary})


def _percentiles(group: list[Seen]) -> tuple[float, float]:
    firsts = sorted(each.first * 1e3 for each in group)
    return firsts[len(firsts) // 2], firsts[len(firsts) * 99 // 100]


if __name__ == "__main__":
    main()
