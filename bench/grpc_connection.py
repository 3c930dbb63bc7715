"""Unary gRPC calls over one HTTP/2 connection, many at once, with as little work as possible.

grpc.aio needs as much CPU for a call as the server does, and would be the bottleneck on a
small machine. What is spoken here is the real protocol (RFC 9113, gRPC over HTTP/2); what is
left out is what a server of ours never does: continued headers, padding, pushed streams.
"""

import asyncio
import struct
from typing import cast

from hpack import Decoder

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_WINDOW_SIZE = 0x7FFFFFFF
_INITIAL_WINDOW = struct.pack(">HI", 4, _WINDOW_SIZE)


class CallFailed(Exception):
    """The server answered with another status than OK."""


class GrpcConnection(asyncio.Protocol):
    def __init__(self, method: str, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        fields = (
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "127.0.0.1"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *metadata,
        )
        self._head = b"".join(_literal(name.encode(), value.encode()) for name, value in fields)
        self._decoder = Decoder()
        self._unread = b""
        self._calls: dict[int, asyncio.Future[bytes]] = {}
        self._bodies: dict[int, bytes] = {}
        self._stream = 1
        self._known: dict[bytes, dict[str, str]] = {}

    async def unary(self, message: bytes) -> bytes:
        """The answer's message. Raises CallFailed."""
        stream, self._stream = self._stream, self._stream + 2
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._calls[stream] = answer
        body = struct.pack(">BI", 0, len(message)) + message
        self._wire.write(
            _frame(_HEADERS, _END_HEADERS, stream, self._head)
            + _frame(_DATA, _END_STREAM, stream, body)
        )
        return await answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)
        room = struct.pack(">I", _WINDOW_SIZE - 65_535)
        settings = _frame(_SETTINGS, 0, 0, _INITIAL_WINDOW)
        self._wire.write(_PREFACE + settings + _frame(_WINDOW, 0, 0, room))

    def connection_lost(self, error: Exception | None) -> None:
        for call in self._calls.values():
            if not call.done():
                call.set_exception(ConnectionError(f"closed by the server: {error}"))

    def data_received(self, data: bytes) -> None:
        self._unread += data
        at = 0
        while len(self._unread) - at >= 9:
            length = int.from_bytes(self._unread[at : at + 3], "big")
            if len(self._unread) - at < 9 + length:
                break
            kind, flags = self._unread[at + 3], self._unread[at + 4]
            stream = int.from_bytes(self._unread[at + 5 : at + 9], "big")
            self._take(kind, flags, stream, self._unread[at + 9 : at + 9 + length])
            at += 9 + length
        self._unread = self._unread[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            self._bodies[stream] = self._bodies.get(stream, b"") + payload
        elif kind == _HEADERS:
            fields = self._fields(payload)
            if flags & _END_STREAM:
                self._end(stream, fields)
        elif kind == _SETTINGS and not flags & _ACK:
            self._wire.write(_frame(_SETTINGS, _ACK, 0, b""))
        elif kind == _PING and not flags & _ACK:
            self._wire.write(_frame(_PING, _ACK, 0, payload))
        elif kind == _RESET:
            self._end(stream, {"grpc-status": "reset"})
        elif kind == _GOAWAY:
            self._wire.close()

    def _fields(self, block: bytes) -> dict[str, str]:
        """Blocks that only point into the table come again and again, and mean the same
        for as long as nothing enters the table."""
        if (known := self._known.get(block)) is not None:
            return known
        fields = dict(cast(list[tuple[str, str]], self._decoder.decode(block)))
        if min(block) & 0x80:
            self._known[block] = fields
        else:
            self._known.clear()
        return fields

    def _end(self, stream: int, fields: dict[str, str]) -> None:
        call, body = self._calls.pop(stream), self._bodies.pop(stream, b"")
        if call.done():
            return
        if fields.get("grpc-status") == "0":
            call.set_result(body[5:])
        else:
            call.set_exception(CallFailed(str(fields)))

    def close(self) -> None:
        self._wire.close()


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """A header field that doesn't enter the table: no state to keep."""
    return b"\x00" + _string(name) + _string(value)


def _string(text: bytes) -> bytes:
    assert len(text) < 127, "longer needs a continued length"
    return bytes([len(text)]) + text


async def connect(port: int, method: str) -> GrpcConnection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: GrpcConnection(method), "127.0.0.1", port)
    return connection
