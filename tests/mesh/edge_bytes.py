"""Requests and answers at the edge as the bytes that they are."""

import asyncio
import contextlib
import json
import struct

from google.protobuf import any_pb2

from tests.mesh.edge_fixture import Reached
from tests.patience import PATIENCE


def packed(*details) -> list[any_pb2.Any]:
    every = [any_pb2.Any() for _ in details]
    for one, detail in zip(every, details, strict=True):
        one.Pack(detail)
    return every


def event(line: str) -> dict:
    assert line.startswith("data: ")
    return json.loads(line.removeprefix("data: "))


def framed(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


def frames(body: bytes) -> list[tuple[int, bytes]]:
    """The frames of a gRPC-Web answer: flag (0x80 for trailers) and content."""
    found = []
    while body:
        flag, size = struct.unpack(">BI", body[:5])
        found.append((flag, body[5 : 5 + size]))
        body = body[5 + size :]
    return found


async def asked_by_hand(mesh: Reached, line: str, body: str = "", chunked: bool = False) -> bytes:
    """All that comes back for an HTTP/1.1 request written by hand."""
    reader, writer = await asyncio.open_connection("127.0.0.1", mesh.edge.http_port)
    size = "transfer-encoding: chunked" if chunked else f"content-length: {len(body)}"
    content = f"{len(body):x}\r\n{body}\r\n0\r\n\r\n" if chunked else body
    head = f"{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{size}\r\n\r\n"
    writer.write((head + content).encode())  # and read meanwhile: a refusal comes before the end
    try:
        return await asyncio.wait_for(everything(reader), PATIENCE)
    finally:
        writer.transport.abort()


async def everything(reader: asyncio.StreamReader) -> bytes:
    got = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := await reader.read(65536):
            got += piece
    return got
