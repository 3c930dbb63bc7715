"""A keep-alive HTTP/1.1 connection as cheap as Python can make it: one request at a time."""

import asyncio
from typing import cast


class HttpConnection(asyncio.Protocol):
    def __init__(self) -> None:
        self._unread = b""
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    async def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """The status and the body of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._wire.write(
            b"POST %b HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            b"content-length: %d\r\n\r\n%b" % (path.encode(), len(body), body)
        )
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._wire = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionError(f"closed by the server: {error}"))

    def data_received(self, data: bytes) -> None:
        self._unread += data
        end = self._unread.find(b"\r\n\r\n")
        if end < 0 or self._answer is None or self._answer.done():
            return
        head = self._unread[:end].lower()
        start = head.find(b"content-length:")
        if start < 0:
            self._answer.set_exception(ValueError(f"an answer without a length: {head!r}"))
            return
        length = int(head[start + 15 :].split(b"\r\n", 1)[0])
        body = self._unread[end + 4 : end + 4 + length]
        if len(body) == length:
            self._unread = self._unread[end + 4 + length :]
            self._answer.set_result((int(head[9:12]), body))

    def close(self) -> None:
        self._wire.close()


async def connect(port: int) -> HttpConnection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(HttpConnection, "127.0.0.1", port)
    return connection
