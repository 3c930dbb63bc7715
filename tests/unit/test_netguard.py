"""Outgoing requests stay on the public internet, unless a host is allowed by name."""

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager

import httpx
import pytest

from servers.kernel.errors import Denied, Unavailable
from servers.kernel.netguard import Guard, GuardedTransport, allow, guarded_client, system_resolver

INTERNAL = {
    "loopback": "127.0.0.1",
    "all of loopback": "127.8.8.8",
    "private": "10.1.2.3",
    "private too": "172.31.255.255",
    "a home network": "192.168.1.1",
    "carrier-grade NAT": "100.64.0.1",
    "loopback v6": "::1",
    "unique local v6": "fd12::1",
}
NEVER = {
    "this host": "0.0.0.0",
    "link-local": "169.254.1.1",
    "metadata": "169.254.169.254",
    "metadata of Alibaba": "100.100.100.200",
    "metadata of Oracle": "192.0.0.192",
    "metadata over v6": "fd00:ec2::254",
    "Azure's host agent": "168.63.129.16",
    "multicast": "224.0.0.1",
    "broadcast": "255.255.255.255",
    "reserved": "240.0.0.1",
    "documentation": "192.0.2.1",
    "benchmarks": "198.18.0.1",
    "unspecified v6": "::",
    "link-local v6": "fe80::1",
    "link-local v6 with a zone": "fe80::1%eth0",
    "multicast v6": "ff02::1",
    "mapped loopback": "::ffff:127.0.0.1",
    "mapped public": "::ffff:8.8.8.8",
    "compatible loopback": "::127.0.0.1",
    "NAT64 loopback": "64:ff9b::7f00:1",
    "local NAT64": "64:ff9b:1::1",
    "6to4 loopback": "2002:7f00:1::",
    "Teredo": "2001:0:1::1",
    "documentation v6": "2001:db8::1",
}


class Names:
    """A resolver that knows these names, and counts how often it was asked."""

    def __init__(self, **known: tuple[str, ...]) -> None:
        self.known, self.asked = known, 0

    async def __call__(self, host: str, port: int) -> tuple[str, ...]:
        self.asked += 1
        return self.known[host.replace(".", "_")]


@asynccontextmanager
async def web(*answers: str, tls: ssl.SSLContext | None = None):
    """A real server on loopback: the first answer to the first request, and so on.

    Yields its port and the list of requests it saw.
    """
    seen: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        seen.append(request.decode())
        writer.write(answers[min(len(seen), len(answers)) - 1].encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield server.sockets[0].getsockname()[1], seen


OK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def moved(to: str) -> str:
    return f"HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class TestAnAddress:
    @pytest.mark.parametrize("address", (INTERNAL | NEVER).values(), ids=(INTERNAL | NEVER).keys())
    async def test_that_is_not_public_is_refused(self, address):
        with pytest.raises(Denied, match=r"site\.example") as caught:
            await Guard(resolver=Names(site_example=(address,))).addresses("site.example", 80)
        assert caught.value.reason == "ADDRESS_DENIED"

    @pytest.mark.parametrize("address", INTERNAL.values(), ids=INTERNAL.keys())
    async def test_that_is_internal_is_open_to_an_allowed_host(self, address):
        guard = allow(["site.example"], Names(site_example=(address,)))
        assert [str(a) for a in await guard.addresses("site.example", 80)] == [address]

    @pytest.mark.parametrize("address", NEVER.values(), ids=NEVER.keys())
    async def test_that_no_honest_name_has_is_refused_even_to_an_allowed_host(self, address):
        with pytest.raises(Denied):
            await allow(["site.example"], Names(site_example=(address,))).addresses(
                "site.example", 80
            )

    @pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111"])
    async def test_that_is_public_is_open(self, address):
        guard = Guard(resolver=Names(site_example=(address,)))
        assert [str(a) for a in await guard.addresses("site.example", 443)] == [address]

    async def test_among_good_ones_refuses_the_host(self):
        names = Names(site_example=("8.8.8.8", "10.0.0.1"))
        with pytest.raises(Denied):
            await Guard(resolver=names).addresses("site.example", 80)


class TestAnAllowedHost:
    async def test_may_be_given_with_its_port_only(self):
        guard = allow(["localhost:9000"], Names(localhost=("127.0.0.1",)))
        assert await guard.addresses("localhost", 9000)
        with pytest.raises(Denied):
            await guard.addresses("localhost", 9001)

    async def test_is_the_same_in_capitals_and_with_a_final_dot(self):
        guard = allow(["Vault.Internal"], Names(vault_internal=("10.0.0.9",)))
        assert await guard.addresses("VAULT.internal.", 80)

    async def test_does_not_open_its_subdomains(self):
        guard = allow(["internal"], Names(vault_internal=("10.0.0.9",)))
        with pytest.raises(Denied):
            await guard.addresses("vault.internal", 80)


class TestAUrl:
    @pytest.mark.parametrize(
        "url",
        [
            "http://2130706433/",
            "http://0x7f000001/",
            "http://0x7f.1/",
            "http://127.1/",
            "http://0177.0.0.1/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://127.0.0.1./",
            "http://\uff11\uff12\uff17.0.0.1/",
            "http://localhost/",
        ],
    )
    async def test_that_spells_loopback_in_any_way_is_refused(self, url):
        async with guarded_client(Guard()) as client:
            with pytest.raises((Denied, httpx.InvalidURL)):
                await client.get(url)

    async def test_in_an_unusual_spelling_is_refused_before_anybody_resolves_it(self):
        names = Names()
        async with guarded_client(allow(["2130706433"], names)) as client:
            with pytest.raises(Denied, match="unusual spelling"):
                await client.get("http://2130706433/")
        assert names.asked == 0

    async def test_with_a_user_name_is_refused(self):
        async with guarded_client(Guard()) as client:
            with pytest.raises(Denied, match="user name"):
                await client.get("http://example.org@127.0.0.1/")

    async def test_that_does_not_resolve_is_unavailable(self):
        async def nowhere(host: str, port: int) -> tuple[str, ...]:
            raise OSError("no such host")

        async with guarded_client(Guard(resolver=nowhere)) as client:
            with pytest.raises(Unavailable, match=r"nowhere\.example"):
                await client.get("http://nowhere.example/")


class TestAGuardedClient:
    async def test_reaches_an_allowed_host_under_its_own_name(self):
        names = Names(app_test=("127.0.0.1",))
        async with web(OK) as (port, seen), guarded_client(allow(["app.test"], names)) as client:
            answer = await client.get(f"http://app.test:{port}/page?q=1")
        assert answer.text == "ok"
        assert str(answer.url) == f"http://app.test:{port}/page?q=1"
        assert f"Host: app.test:{port}" in seen[0]

    async def test_reaches_an_allowed_address(self):
        async with web(OK) as (port, _), guarded_client(allow(["127.0.0.1"])) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).text == "ok"

    async def test_resolves_once_so_that_rebinding_has_nothing_to_aim_at(self):
        names = Names(app_test=("127.0.0.1",))
        async with web(OK) as (port, _), guarded_client(allow(["app.test"], names)) as client:
            await client.get(f"http://app.test:{port}/")
        assert names.asked == 1

    async def test_tries_the_next_address_where_one_refuses(self):
        names = Names(app_test=("127.0.0.2", "127.0.0.1"))  # nobody listens on the first
        async with web(OK) as (port, _), guarded_client(allow(["app.test"], names)) as client:
            assert (await client.get(f"http://app.test:{port}/")).text == "ok"

    async def test_says_when_nobody_listens(self):
        async with web(OK) as (port, _):
            pass
        async with guarded_client(allow(["127.0.0.1"])) as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(f"http://127.0.0.1:{port}/")

    async def test_checks_where_a_redirect_leads(self):
        names = Names(app_test=("127.0.0.1",), inside_test=("10.0.0.1",))
        async with (
            web(moved("http://inside.test/secret")) as (port, _),
            guarded_client(allow(["app.test"], names)) as client,
        ):
            with pytest.raises(Denied, match=r"inside\.test"):
                await client.get(f"http://app.test:{port}/", follow_redirects=True)

    @pytest.mark.parametrize("to", ["file:///etc/passwd", "gopher://127.0.0.1/"])
    async def test_follows_no_redirect_to_another_scheme(self, to):
        async with web(moved(to)) as (port, _), guarded_client(allow(["127.0.0.1"])) as client:
            with pytest.raises((Denied, httpx.HTTPError)):
                await client.get(f"http://127.0.0.1:{port}/", follow_redirects=True)

    async def test_stops_after_five_redirects(self):
        async with web(moved("/again")) as (port, seen), guarded_client(allow(["127.0.0.1"])) as c:
            with pytest.raises(httpx.TooManyRedirects):
                await c.get(f"http://127.0.0.1:{port}/", follow_redirects=True)
        assert len(seen) == 6

    async def test_keeps_no_cookies(self):
        cookie = OK.replace("Connection", "Set-Cookie: who=me\r\nConnection")
        async with web(cookie) as (port, seen), guarded_client(allow(["127.0.0.1"])) as client:
            for _ in range(2):
                await client.get(f"http://127.0.0.1:{port}/")
        assert "who=me" not in seen[1]

    async def test_ignores_the_proxies_of_the_environment(self, monkeypatch):
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        async with web(OK) as (port, _), guarded_client(allow(["127.0.0.1"])) as client:
            assert (await client.get(f"http://127.0.0.1:{port}/")).text == "ok"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A certificate for app.test that nobody but this test trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-subj", "/CN=app.test", "-addext", "subjectAltName=DNS:app.test"),
            *("-keyout", folder / "key.pem", "-out", folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return folder


class TestTls:
    async def test_asks_for_the_name_and_checks_it(self, certificate):
        asked = []
        async with self.client(certificate) as client, self.server(certificate, asked) as port:
            assert (await client.get(f"https://app.test:{port}/")).text == "ok"
        assert asked == ["app.test"]

    async def test_refuses_a_certificate_of_another_name(self, certificate):
        async with self.client(certificate) as client, self.server(certificate, []) as port:
            with pytest.raises(httpx.ConnectError, match="certificate"):
                await client.get(f"https://other.test:{port}/")

    @asynccontextmanager
    async def server(self, certificate, asked):
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
        tls.sni_callback = lambda _socket, name, _context: asked.append(name)
        async with web(OK, tls=tls) as (port, _):
            yield port

    def client(self, certificate):
        names = Names(app_test=("127.0.0.1",), other_test=("127.0.0.1",))
        trusting = ssl.create_default_context(cafile=certificate / "cert.pem")
        inner = httpx.AsyncHTTPTransport(verify=trusting, trust_env=False)
        guard = allow(["app.test", "other.test"], names)
        return httpx.AsyncClient(transport=GuardedTransport(guard, inner))


async def test_the_system_resolver_knows_localhost():
    assert "127.0.0.1" in await system_resolver("localhost", 80)
