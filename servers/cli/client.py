"""A connection to a mesh whose failures are domain errors."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from servers.cli.failures import NobodyThere
from servers.kernel.errors import InvalidInput, Unavailable
from servers.kernel.peer import from_rpc_error, raised_by_peer

PATIENCE = 30.0  # seconds for a call that only reads or writes something
_LARGEST = 64 << 20  # bytes of one answer


@asynccontextmanager
async def connected(address: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to the mesh. What fails inside is raised as what the mesh raised."""
    if not address or any(c.isspace() for c in address) or "//" in address:
        raise InvalidInput(f"{address!r} is no address: give HOST:PORT")
    options = [("grpc.max_receive_message_length", _LARGEST), ("grpc.enable_retries", 0)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        try:
            yield channel
        except grpc.aio.AioRpcError as failure:
            if failure.code() is grpc.StatusCode.UNAVAILABLE and raised_by_peer(failure) is None:
                raise _gone(address, failure.details() or "") from failure
            raise from_rpc_error(failure) from failure


def _gone(address: str, details: str) -> Unavailable:
    if details.startswith("failed to connect") or "DNS" in details:
        return NobodyThere(
            f"no mesh answers at {address}: start one with `astromesh up`, "
            "or name another with --address"
        )
    return Unavailable(
        f"the mesh at {address} went away ({details}): its runs are on record; once it is up "
        "again, see `astromesh runs list`"
    )
