"""What http_get shows a model of the web, over real sockets on loopback."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from servers.kernel.errors import Denied, InvalidInput, Unavailable
from servers.kernel.netguard import Guard, allow, guarded_client
from servers.tools.adapters.http_get import HttpGet
from tests.patience import PATIENCE


def page(
    body: bytes = b"hello", kind: str = "text/plain", status: str = "200 OK", more: str = ""
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Connection: close\r\n\r\n"
    return head.encode() + body


@asynccontextmanager
async def site(answer: bytes, *, endless: bool = False, seen: list[str] | None = None):
    """Serves one answer, or goes on with it for ever. Yields its address."""
    finished = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        if seen is not None:
            seen.append(request.decode().lower())
        try:
            writer.write(answer)
            while endless:
                writer.write(b"x" * 65536)
                await writer.drain()
        except ConnectionError:  # the client has read enough
            pass
        finally:
            writer.close()
            finished.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/page"
        if endless:
            await asyncio.wait_for(finished.wait(), PATIENCE)


async def fetched(url: str, guard: Guard | None = None, max_bytes: int = 1000) -> str:
    async with guarded_client(guard or allow(["127.0.0.1"])) as client:
        return await HttpGet(client, max_bytes).http_get(url)


class TestAPage:
    @pytest.mark.parametrize(
        "kind",
        ["text/plain", "text/html; charset=utf-8", "application/json", "application/ld+json"],
    )
    async def test_of_text_or_json_is_shown(self, kind):
        async with site(page(kind=kind)) as url:
            assert await fetched(url) == "hello"

    @pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", ""])
    async def test_of_another_kind_is_refused(self, kind):
        async with site(page(kind=kind)) as url:
            with pytest.raises(InvalidInput, match="not text or JSON"):
                await fetched(url)

    async def test_is_read_in_its_own_charset(self):
        async with site(page("Käse".encode("latin-1"), "text/plain; charset=latin-1")) as url:
            assert await fetched(url) == "Käse"

    @pytest.mark.parametrize("charset", ["klingon", "zlib"])
    async def test_in_a_charset_nobody_knows_is_read_as_utf_8(self, charset):
        async with site(page("Käse".encode(), f"text/plain; charset={charset}")) as url:
            assert await fetched(url) == "Käse"

    async def test_that_is_long_is_cut(self):
        async with site(page(b"y" * 2000)) as url:
            assert await fetched(url) == "y" * 1000 + "\n[... cut after 1000 bytes]"

    async def test_that_never_ends_is_cut_and_let_go(self):
        async with site(page(), endless=True) as url:
            assert (await fetched(url)).endswith("[... cut after 1000 bytes]")

    async def test_that_is_packed_unasked_is_refused(self):
        seen: list[str] = []
        async with site(page(more="Content-Encoding: gzip\r\n"), seen=seen) as url:
            with pytest.raises(Unavailable, match="packed as 'gzip'"):
                await fetched(url)
        assert "accept-encoding: identity" in seen[0]

    async def test_that_is_an_error_shows_its_start(self):
        async with site(page(b"no such page", status="404 Not Found")) as url:
            with pytest.raises(Unavailable, match="HTTP 404 Not Found: no such page"):
                await fetched(url)


class TestAnAddress:
    async def test_inside_is_refused(self):
        async with site(page()) as url:
            with pytest.raises(Denied, match="internal network"):
                await fetched(url, Guard())

    async def test_inside_is_refused_as_the_target_of_a_redirect(self):
        inside = page(status="302 Found", more="Location: http://169.254.169.254/latest\r\n")
        async with site(inside) as url:
            with pytest.raises(Denied, match=r"169\.254\.169\.254"):
                await fetched(url)

    @pytest.mark.parametrize(
        "url", ["file:///etc/passwd", "/page", "ftp://example.org/", "http://"]
    )
    async def test_that_is_not_of_the_web_is_refused(self, url):
        with pytest.raises((InvalidInput, Denied)):
            await fetched(url)

    async def test_without_a_scheme_is_told_what_it_needs(self):
        with pytest.raises(InvalidInput, match="it needs http:// or https://"):
            await fetched("example.org/data.json")

    async def test_that_redirects_for_ever_is_given_up(self):
        async with site(page(status="302 Found", more="Location: /page\r\n")) as url:
            with pytest.raises(Unavailable, match="redirects too often"):
                await fetched(url)

    async def test_where_nobody_listens_is_unavailable(self):
        async with site(page()) as url:
            pass
        with pytest.raises(Unavailable, match="can't be fetched"):
            await fetched(url)

    async def test_that_answers_garbage_is_unavailable(self):
        async with site(b"\x00\x01 not http at all\r\n\r\n") as url:
            with pytest.raises(Unavailable, match="can't be fetched"):
                await fetched(url)
