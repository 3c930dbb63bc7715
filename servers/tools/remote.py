"""`Tools` answered by another process: same calls, same values, same errors."""

from collections.abc import Sequence
from time import monotonic

import grpc
from astromesh.tools.v1 import tool_service_pb2 as pb
from astromesh.tools.v1 import tool_service_pb2_grpc

from servers.domain.caller import Caller
from servers.domain.tools import Outcome, Tool, ToolRequest, ToolResult
from servers.kernel.calls import metadata_of
from servers.kernel.errors import Internal
from servers.kernel.paging import LARGEST_SIZE
from servers.kernel.status import domain_errors, from_rpc_error, raised_by_peer
from servers.tools import convert


class RemoteTools:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = tool_service_pb2_grpc.ToolServiceStub(channel)

    async def list(self) -> Sequence[Tool]:
        found: list[Tool] = []
        request = pb.ListToolsRequest(page_size=LARGEST_SIZE)
        while True:
            with domain_errors("tools"):
                page = await self._stub.ListTools(request)
            found += convert.tools_from(page.tools)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    async def get(self, name: str) -> Tool:
        with domain_errors("tools"):
            return convert.tool_from(await self._stub.GetTool(pb.GetToolRequest(tool=name)))

    async def call(self, caller: Caller, request: ToolRequest) -> ToolResult:
        wire, started = convert.request_to(request), monotonic()
        try:
            answer = await self._stub.CallTool(wire, metadata=metadata_of(caller))
        except grpc.aio.AioRpcError as failure:
            if not _may_have_run(failure):
                raise from_rpc_error(failure, "tools") from failure
            why = from_rpc_error(failure).message
            content = (
                f"The tool service broke off ({why}). Whether the call took effect is unknown."
            )
            return ToolResult(content, Outcome.UNKNOWN, duration=monotonic() - started)
        return convert.result_from(answer)


# The only trace of a call that found nobody to send it to is what gRPC says of it. Words that
# are not known count as a call that was sent.
_NOT_SENT = ("failed to connect", "errors resolving", "DNS resolution failed")
_REFUSED = (
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
)


def _may_have_run(failure: grpc.aio.AioRpcError) -> bool:
    """Whether the tool may have been at work when the call failed."""
    if raised := raised_by_peer(failure):
        return isinstance(raised, Internal)  # any other is raised before a tool is called
    return failure.code() not in _REFUSED and not (failure.details() or "").startswith(_NOT_SENT)
