"""A real HTTP/1.1 server on loopback that says what a test scripted, byte for byte.

Stands for other people's model servers at the wire. What is said is made by a dialect
(`openai_server`, `ollama_server`); this module only speaks HTTP.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, cast

import orjson


class Then(Enum):
    """What happens after the pieces of a reply."""

    END = "end"  # the proper end, with its marker
    HANG = "hang"  # nothing more, for ever
    CLOSE = "close"  # the connection is cut
    STOP = "stop"  # the body ends properly, its marker is missing
    ERROR = "error"  # an error inside the answer that began with 200
    GARBAGE = "garbage"  # something that is no part of the protocol


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call as the model makes it. `arguments` is JSON text, broken or not."""

    name: str
    arguments: str = "{}"
    id: str = "call_1"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer of a model server: pieces of text, then what follows them."""

    pieces: Sequence[str] = ("Hello", " there")
    reasoning: Sequence[str] = ()
    calls: Sequence[Call] = ()
    refusal: str = ""  # what OpenAI's models say instead of a structured answer
    prompt_tokens: int = 7
    completion_tokens: int = 2
    cached_tokens: int = 0
    counted: bool = True  # whether usage is reported
    reason: str = "stop"
    pause: float = 0.0  # seconds before each piece
    then: Then = Then.END
    cut: int = 0  # a stream leaves in slices of so many bytes; 0: event by event
    closes: bool = False  # the connection is dead after this; the next request finds out
    status: int = 200
    error: str = ""  # the message of an answer that is not 200
    code: str = ""  # its code, where the dialect has codes
    headers: Sequence[tuple[str, str]] = ()
    hold: asyncio.Event | None = None  # waits for this before it answers


def refuses(status: int, error: str = "no", **headers: str) -> Reply:
    shown = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Reply(status=status, error=error, headers=shown)


@dataclass(frozen=True, slots=True)
class Said:
    """A whole answer as it goes out. `body` is sent as JSON, or as it is where it is bytes."""

    body: Any
    headers: Sequence[tuple[str, str]] = ()
    status: int = 200


class Dialect(Protocol):
    """More may be there: `posts`, other paths that are posted to, each with what answers
    whole (`Callable[[Reply, Any], Said]`); `refused`, the body of what is not 200; `accepts`,
    whether a path is a chat's; `objection`, the Reply to a request that such a server refuses."""

    prefix: str  # of the endpoint that is configured, e.g. "/v1"
    chat: str  # the path that chats are posted to
    stream_type: str

    def whole(self, reply: Reply, asked: Any) -> Any: ...

    def pieces(self, reply: Reply, asked: Any) -> Sequence[bytes]: ...

    def end(self, reply: Reply, asked: Any) -> bytes: ...

    def error(self, reply: Reply) -> bytes: ...

    def get(self, path: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Asked:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: Any


@dataclass(slots=True)
class ScriptedServer:
    """Answers with `replies` in order; the last one again and again."""

    dialect: Dialect
    replies: list[Reply]
    requests: list[Asked] = field(default_factory=list)  # what was posted to known paths
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)  # a chat has arrived
    left: asyncio.Event = field(default_factory=asyncio.Event)  # a client left during an answer
    port: int = 0
    _open: set["_Connection"] = field(default_factory=set)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}{self.dialect.prefix}"

    def next(self) -> Reply:
        return self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]


@asynccontextmanager
async def serving(
    dialect: Dialect, *replies: Reply, port: int = 0
) -> AsyncIterator[ScriptedServer]:
    """`port` is for a server that comes back to where it was."""
    server = ScriptedServer(dialect, list(replies) or [Reply()])
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Connection(server), "127.0.0.1", port)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for connection in list(server._open):
            connection.cut()
        await listening.wait_closed()


@asynccontextmanager
async def nobody() -> AsyncIterator[str]:
    """An address where connections are refused: bound, so that nobody else gets it."""
    import socket

    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{held.getsockname()[1]}"


class _Connection(asyncio.Protocol):
    def __init__(self, server: ScriptedServer) -> None:
        self._server, self._seen = server, b""
        self._answering: asyncio.Task[None] | None = None
        self._dead = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)  # uvloop's own is no subclass
        self._server.connections += 1
        self._server._open.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server._open.discard(self)
        if self._answering and not self._answering.done():
            self._answering.cancel()
            self._server.left.set()

    def cut(self) -> None:
        self._wire.abort()

    def data_received(self, data: bytes) -> None:
        if self._dead:
            self._wire.abort()
            return
        self._seen += data
        head, found, rest = self._seen.partition(b"\r\n\r\n")
        if not found:
            return
        lines = head.decode().split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        length = int(headers.get("content-length", 0))
        if len(rest) < length:
            return
        self._seen = rest[length:]
        method, path, _ = lines[0].split(" ")
        body = orjson.loads(rest[:length]) if length else None
        self._answering = asyncio.ensure_future(self._answer(Asked(path, headers, body), method))

    async def _answer(self, asked: Asked, method: str) -> None:
        dialect = self._server.dialect
        other = getattr(dialect, "posts", {}).get(asked.path)
        accepts = getattr(dialect, "accepts", dialect.chat.__eq__)
        if method == "GET":
            self._get(dialect.get(asked.path))
        elif not accepts(asked.path) and other is None:
            self._send(404, b'{"error":"no such path"}')
        else:
            self._server.requests.append(asked)
            self._server.asked.set()
            reply = getattr(dialect, "objection", _none)(asked) or self._server.next()
            if reply.hold:
                await reply.hold.wait()
            if reply.status != 200:
                refused = getattr(dialect, "refused", _refused)(reply)
                self._send(reply.status, orjson.dumps(refused), reply.headers)
            elif other is not None:
                await self._whole(reply, other(reply, asked.body))
            elif asked.body.get("stream", dialect.chat.startswith("/api")):
                await self._stream(reply, asked.body)
            else:
                await self._whole(reply, Said(dialect.whole(reply, asked.body)))
            self._dead = reply.closes

    def _get(self, found: Any) -> None:
        """What is None is not there, bytes go out as they are."""
        body = found if isinstance(found, bytes) else orjson.dumps(found)
        self._send(404 if found is None else 200, body)

    async def _whole(self, reply: Reply, said: Said) -> None:
        body = said.body if isinstance(said.body, bytes) else orjson.dumps(said.body)
        await asyncio.sleep(reply.pause)
        match reply.then:
            case Then.END:
                self._send(said.status, body, said.headers)
            case Then.HANG:
                await asyncio.Event().wait()
            case Then.ERROR:
                self._send(200, orjson.dumps({"error": reply.error}))
            case Then.GARBAGE:
                self._send(200, b"<html>it works</html>")
            case Then.STOP:
                self._send(200, b"{}")
            case Then.CLOSE:
                head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
                self._wire.write(head + body[:10])
                self._wire.close()

    async def _stream(self, reply: Reply, asked: Any) -> None:
        dialect = self._server.dialect
        self._wire.write(
            f"HTTP/1.1 200 OK\r\ncontent-type: {dialect.stream_type}\r\n"
            "transfer-encoding: chunked\r\n\r\n".encode()
        )
        for piece in dialect.pieces(reply, asked):
            await asyncio.sleep(reply.pause)
            self._chunk(piece, reply.cut)
        match reply.then:
            case Then.END:
                self._chunk(dialect.end(reply, asked), reply.cut)
                self._wire.write(b"0\r\n\r\n")
            case Then.STOP:
                self._wire.write(b"0\r\n\r\n")
            case Then.HANG:
                await asyncio.Event().wait()
            case Then.ERROR:
                self._chunk(dialect.error(reply))
                self._wire.write(b"0\r\n\r\n")
            case Then.GARBAGE:
                self._chunk(b"<html>it works</html>\n")
                self._wire.write(b"0\r\n\r\n")
            case Then.CLOSE:
                self._wire.close()

    def _chunk(self, data: bytes, cut: int = 0) -> None:
        for start in range(0, len(data), cut or len(data)):
            part = data[start : start + (cut or len(data))]
            self._wire.write(b"%x\r\n%s\r\n" % (len(part), part))

    def _send(self, status: int, body: bytes, headers: Sequence[tuple[str, str]] = ()) -> None:
        lines = [f"HTTP/1.1 {status} Scripted", "content-type: application/json"]
        lines += [f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in headers)]
        self._wire.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def _refused(reply: Reply) -> Any:
    return {"error": {"message": reply.error, "type": "x"}}


def _none(asked: Asked) -> Reply | None:
    return None
