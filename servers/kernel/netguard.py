"""Keeps outgoing requests on the public internet, unless a host is allowed by name.

A URL that a model or a manifest chose may point at this machine, at its neighbours
or at a cloud's metadata service. `Guard` resolves a host once and checks every
address; `GuardedTransport` then connects to exactly the checked address, with the
name kept for the Host header and for TLS. As nothing resolves twice, DNS rebinding
has nothing to aim at, and as every hop of a redirect passes through the transport,
none goes unchecked.
"""

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from http.cookiejar import CookieJar, DefaultCookiePolicy
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TypeAlias

import httpx

from servers.kernel.errors import Denied, Unavailable

Address: TypeAlias = IPv4Address | IPv6Address
# Takes an ASCII host name and a port, returns addresses in the order to try them.
Resolver: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]

# An allowed host may live here. Everything else that isn't global stays closed to it.
_INTERNAL = tuple(
    ip_network(block)
    for block in (
        "10.0.0.0/8",
        "172.16.0.0/12",
        "192.168.0.0/16",
        "127.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "::1/128",
        "fc00::/7",  # unique local
    )
)

# Never, not even for an allowed host: what no honest name resolves to. `is_global` and
# `is_reserved` cover much of it, but their answers differ between versions of Python,
# and tunnels and Azure's host agent count as global.
_NEVER = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",
        "169.254.0.0/16",  # link-local: metadata of AWS, GCP, Azure, DigitalOcean
        "192.0.0.0/24",  # 192.0.0.192: metadata of Oracle
        "224.0.0.0/4",
        "240.0.0.0/4",
        "100.100.100.200/32",  # metadata of Alibaba, in the middle of the NAT range
        "fd00:ec2::254/128",  # metadata of AWS over IPv6
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
        "::ffff:0:0/96",  # IPv4-mapped
        "64:ff9b::/96",  # NAT64: an IPv4 address in disguise
        "64:ff9b:1::/48",
        "2001::/32",  # Teredo
        "2002::/16",  # 6to4
        "168.63.129.16/32",  # Azure's host agent, on a public address
    )
)

# Whatever ends like a number is one to some resolvers: 2130706433, 0x7f.1, 0177.0.0.1.
_NUMERIC_END = re.compile(r"(?:^|\.)(?:[0-9]+|0x[0-9a-f]*)$", re.IGNORECASE)


async def system_resolver(host: str, port: int) -> Sequence[str]:
    """Ask the operating system, off the event loop."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides which addresses may be connected to.

    `allowed` holds hosts ("vault.internal", "127.0.0.1") or hosts with a port
    ("localhost:9000") that may be loopback, private or behind carrier-grade NAT.
    Link-local, multicast, reserved and metadata addresses stay refused even for them.
    """

    allowed: frozenset[str] = frozenset()
    resolver: Resolver = system_resolver

    async def addresses(self, host: str, port: int) -> tuple[Address, ...]:
        """Where `host` may be reached, in the order to try.

        One bad address among good ones refuses the host: a name that is both inside
        and outside is an attack or a mistake.

        Raises Denied (reason ADDRESS_DENIED) or Unavailable (HOST_NOT_FOUND).
        """
        name = host.lower().rstrip(".")
        allowed = name in self.allowed or f"{name}:{port}" in self.allowed
        found = await self._resolve(name, port)
        for address in found:
            if not _permitted(address, allowed):
                raise _denied(host, _why(address, allowed))
        return found

    async def _resolve(self, name: str, port: int) -> tuple[Address, ...]:
        if (literal := _literal(name)) is not None:
            return (literal,)
        try:
            found = await self.resolver(name, port)
        except (OSError, UnicodeError):
            found = ()
        if not found:
            raise Unavailable(
                f"the host {name!r} can't be resolved: check its spelling",
                reason="HOST_NOT_FOUND",
                host=name,
            )
        return tuple(_plain(name, text) for text in found)


class GuardedTransport(httpx.AsyncBaseTransport):
    """An httpx transport that only reaches what its guard lets it.

    Connections aren't kept: to the pool all names on one address are one place, and a
    connection whose certificate was checked for one name must not serve another.
    """

    def __init__(self, guard: Guard, inner: httpx.AsyncBaseTransport | None = None) -> None:
        self._guard = guard
        self._inner = inner or httpx.AsyncHTTPTransport(
            trust_env=False, limits=httpx.Limits(max_connections=100, max_keepalive_connections=0)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = _host_of(request.url)
        port = request.url.port or {"http": 80, "https": 443}[request.url.scheme]
        failure: httpx.TransportError | None = None
        for address in await self._guard.addresses(host, port):
            try:
                return await self._inner.handle_async_request(_pinned(request, host, address))
            except (httpx.ConnectError, httpx.ConnectTimeout) as refused:
                failure = refused  # nothing was sent yet: the next address may answer
        raise failure or httpx.ConnectError(f"{host!r} has no address", request=request)

    async def aclose(self) -> None:
        await self._inner.aclose()


def guarded_client(
    guard: Guard, *, timeout: float = 30.0, max_redirects: int = 5
) -> httpx.AsyncClient:
    """A client for addresses somebody else chose. It knows no proxies, netrc or cookies.

    Redirects are followed only where a call asks for it, `max_redirects` at most.
    """
    return httpx.AsyncClient(
        transport=GuardedTransport(guard),
        # One client serves many tenants: what a site sets for one must not reach another.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        timeout=timeout,
        max_redirects=max_redirects,
        trust_env=False,
    )


def allow(hosts: Iterable[str], resolver: Resolver = system_resolver) -> Guard:
    """A guard that lets these hosts be internal, however they are capitalised."""
    return Guard(frozenset(host.lower().rstrip(".") for host in hosts), resolver)


def _pinned(request: httpx.Request, host: str, address: Address) -> httpx.Request:
    """The same request, aimed at an address. Its Host header already carries the name."""
    extensions = dict(request.extensions)
    if _literal(host) is None:
        extensions["sni_hostname"] = host  # TLS asks for, and checks, the name
    return httpx.Request(
        request.method,
        request.url.copy_with(host=str(address)),
        headers=request.headers,
        stream=request.stream,
        extensions=extensions,
    )


def _host_of(url: httpx.URL) -> str:
    """The host a URL names, as ASCII. Refuses what only looks like a web address."""
    host = url.raw_host.decode("ascii")
    if url.scheme not in ("http", "https"):
        raise _denied(host, f"the scheme {url.scheme!r} is not http or https")
    if url.userinfo:
        raise _denied(host, "the URL carries a user name or password")
    if not host:
        raise _denied(host, "the URL names no host")
    if _NUMERIC_END.search(host.rstrip(".")) and _literal(host) is None:
        raise _denied(host, "it is an address in an unusual spelling; write it as a.b.c.d")
    return host


def _literal(host: str) -> Address | None:
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        return None


def _plain(name: str, text: str) -> Address:
    try:
        return ip_address(text)  # keeps a zone ("fe80::1%eth0"), which is then refused
    except ValueError:
        raise _denied(name, f"the resolver answered {text!r}, which is no address") from None


def _permitted(address: Address, allowed: bool) -> bool:
    if any(address in block for block in _NEVER):
        return False
    if any(address in block for block in _INTERNAL):
        return allowed
    return address.is_global and not address.is_multicast and not address.is_reserved


def _why(address: Address, allowed: bool) -> str:
    if not allowed and _permitted(address, True):
        return "it is on an internal network; an operator may allow it by name"
    return "it is on a link-local, metadata, multicast, reserved or tunnelled address"


def _denied(host: str, why: str) -> Denied:
    return Denied(f"the host {host!r} is refused: {why}", reason="ADDRESS_DENIED", host=host)
