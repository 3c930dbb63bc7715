"""An OpenAI-compatible model that answers at once, so that what asks it is what is measured.

    python -m bench.instant_model [--pieces 20] [--gap 20]

It says a fixed text and then what it was asked last, which proves that an answer belongs to
its question. Streams come in `--pieces` pieces `--gap` milliseconds apart, the first one
after a gap as well; an answer in one piece takes as long as the whole stream. Prints its port.
"""

import argparse
import asyncio
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import orjson
import uvloop

SAYS = "A mesh routes requests between services; this is the answer to"
_STREAMED = re.compile(rb'"stream"\s*:\s*true')
_USAGE = {"prompt_tokens": 24, "completion_tokens": 16, "total_tokens": 40}
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_MODELS = orjson.dumps({"object": "list", "data": [{"id": "instant", "object": "model"}]})


def answer_to(question: str) -> str:
    return f"{SAYS} {question}."


@dataclass(frozen=True, slots=True)
class Pace:
    pieces: int = 1
    gap: float = 0.0  # seconds


class InstantModel(asyncio.Protocol):
    """One connection, kept alive. Only what the measured clients send is understood."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._unread = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            whole = end + 4 + _body_length(self._unread[:end])
            if len(self._unread) < whole:
                return
            request, self._unread = self._unread[:whole], self._unread[whole:]
            self._answer(request, request[end + 4 :])

    def _answer(self, request: bytes, body: bytes) -> None:
        if not body:
            self._say(_MODELS)
            return
        text = answer_to(orjson.loads(body)["messages"][-1]["content"])
        streamed = _STREAMED.search(body) is not None
        if self._pace.gap:
            self._task = asyncio.create_task(self._tell(text) if streamed else self._finish(text))
        elif not streamed:
            self._say(_completion(text))
        else:
            events = b"".join([*_pieces(text, self._pace.pieces), _end()])
            self._wire.write(_STREAM_HEAD + _chunk(events) + b"0\r\n\r\n")

    def _say(self, body: bytes) -> None:
        self._wire.write(_HEAD % (len(body), body))

    async def _finish(self, text: str) -> None:
        await asyncio.sleep(self._pace.pieces * self._pace.gap)
        self._say(_completion(text))

    async def _tell(self, text: str) -> None:
        self._wire.write(_STREAM_HEAD)
        due = asyncio.get_running_loop().time()
        for piece in _pieces(text, self._pace.pieces):
            due += self._pace.gap
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            self._wire.write(_chunk(piece))
        self._wire.write(_chunk(_end()) + b"0\r\n\r\n")


def _body_length(head: bytes) -> int:
    start = head.lower().find(b"content-length:")
    return int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0


def _completion(text: str) -> bytes:
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    return orjson.dumps(_event("chat.completion", [choice]) | {"usage": _USAGE})


def _pieces(text: str, count: int) -> list[bytes]:
    cuts = [len(text) * number // count for number in range(count + 1)]
    return [_delta({"content": text[a:b]}, None) for a, b in pairwise(cuts)]


def _end() -> bytes:
    usage = orjson.dumps(_event("chat.completion.chunk", []) | {"usage": _USAGE})
    return _delta({}, "stop") + b"data: " + usage + b"\n\ndata: [DONE]\n\n"


def _delta(delta: dict[str, str], reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return b"data: " + orjson.dumps(_event("chat.completion.chunk", [choice])) + b"\n\n"


def _event(kind: str, choices: list[dict[str, object]]) -> dict[str, object]:
    return {"id": "x", "object": kind, "created": 0, "model": "instant", "choices": choices}


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def _serve(pace: Pace) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: InstantModel(pace), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pieces", type=int, default=1)
    parser.add_argument("--gap", type=float, default=0.0, help="milliseconds between two pieces")
    arguments = parser.parse_args()
    uvloop.run(_serve(Pace(arguments.pieces, arguments.gap / 1e3)))


if __name__ == "__main__":
    main()
