"""The gRPC connection to a server of KServe's protocol, and what its errors mean."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tritonclient.grpc import aio as kserve

from servers.kernel.errors import AstromeshError, InvalidInput, NotReady
from servers.router.adapters.failures import redacted
from servers.router.ports import ProviderDown

# The client wraps the errors of single calls in an exception of its own, those of streams not.
BROKEN = (kserve.InferenceServerException, kserve.grpc.RpcError)

_PORT = 8001  # Triton's own
_CHANNEL = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 32 << 20),
    ("grpc.enable_http_proxy", 0),
    # Else a new connection would wait as long as failures of the one before have taught.
    ("grpc.use_local_subchannel_pool", 1),
]
_DOWN = {
    "UNAVAILABLE": "PROVIDER_UNREACHABLE",
    "DEADLINE_EXCEEDED": "PROVIDER_TIMEOUT",
    "RESOURCE_EXHAUSTED": "RATE_LIMITED",
}
_REFUSED = frozenset({"INVALID_ARGUMENT", "OUT_OF_RANGE", "FAILED_PRECONDITION"})
_FULL = "Exceeds maximum queue size"  # the model is there, and asks for fewer requests
_NO_ID = "[request id: <id_unknown>] "  # begins some of Triton's words


@dataclass(frozen=True, slots=True)
class Tls:
    """Files of certificates. Empty: the usual authorities, and none of our own."""

    ca_file: str = ""
    cert_file: str = ""
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is. `endpoint` is what errors call it."""

    endpoint: str
    target: str  # host:port
    secure: bool


class Link:
    """A connection that is closed once it is retired and its last user has left.

    gRPC would mend a broken one by itself, but only after a pause that grows: a server that
    is back must be found by the first call that looks for it.
    """

    def __init__(self, address: Address, tls: Tls) -> None:
        """Needs the running event loop. Raises NotReady for a file that can't be read."""
        try:
            self._client = kserve.InferenceServerClient(
                address.target,
                ssl=address.secure,
                root_certificates=tls.ca_file or None,
                certificate_chain=tls.cert_file or None,
                private_key=tls.key_file or None,
                channel_args=_CHANNEL,
            )
        except OSError as missing:
            raise NotReady(f"{address.endpoint}: {missing}") from missing
        self._users, self._retired = 0, False

    @asynccontextmanager
    async def used(self) -> AsyncIterator[Any]:
        self._users += 1
        try:
            yield self._client
        finally:
            self._users -= 1
            await self._close_if_left()

    async def retire(self) -> None:
        self._retired = True
        await self._close_if_left()

    async def _close_if_left(self) -> None:
        # To close it under a call would look to the caller as if he had been cancelled.
        if self._retired and not self._users:
            await self._client.close()


def address(endpoint: str) -> Address:
    """Raises NotReady for what is no address of a gRPC server."""
    try:
        parsed = urlsplit(endpoint)
        host, port = parsed.hostname or "", parsed.port or _PORT
    except ValueError:
        parsed, host, port = urlsplit(""), "", 0
    if parsed.scheme not in ("grpc", "grpcs") or not host or parsed.path not in ("", "/"):
        raise NotReady(
            f"{endpoint!r} is no gRPC address: it needs grpc://host:port, or grpcs:// for TLS",
            reason="ENDPOINT_WRONG",
        )
    named = f"[{host}]" if ":" in host else host
    return Address(endpoint, f"{named}:{port}", parsed.scheme == "grpcs")


@dataclass(frozen=True, slots=True)
class Fault:
    """What a server said instead of an answer."""

    code: str  # gRPC's, by name; empty where it has none
    said: str

    def meaning(self, endpoint: str, api_key: str) -> AstromeshError:
        """What it is to the router."""
        what = f"{endpoint}: {redacted(self.said, api_key)}"
        match self.code:
            case code if code in _REFUSED:
                return InvalidInput(what, reason="PROVIDER_REFUSED")
            case "NOT_FOUND":
                return NotReady(f"{what} (is it loaded there?)", reason="MODEL_NOT_FOUND")
            case "UNIMPLEMENTED":
                return NotReady(f"{what} (is it a Triton?)", reason="ENDPOINT_WRONG")
            case "UNAUTHENTICATED" | "PERMISSION_DENIED":
                why = "check the provider's api_key_env"
                return NotReady(f"{what} ({why})", reason="PROVIDER_DENIED")
            case code:
                return ProviderDown(what, reason=_DOWN.get(code, "PROVIDER_FAILED"))


def fault(error: Any) -> Fault:
    """Of either kind of error."""
    if isinstance(error, kserve.InferenceServerException):
        code, said = (error.status() or "").removeprefix("StatusCode."), error.message()
    else:
        code, said = error.code().name, error.details()
    said = " ".join((said or "").removeprefix(_NO_ID).split())
    return Fault("RESOURCE_EXHAUSTED" if _FULL in said else code, said)
