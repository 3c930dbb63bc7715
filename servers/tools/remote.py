"""`Tools` answered by another process: same calls, same values, same errors."""

from collections.abc import Sequence

import grpc
from astromesh.tools.v1 import tool_service_pb2 as pb
from astromesh.tools.v1 import tool_service_pb2_grpc

from servers.domain.caller import Caller
from servers.domain.tools import Tool, ToolRequest, ToolResult
from servers.kernel.calls import metadata_of
from servers.kernel.paging import LARGEST_SIZE
from servers.kernel.status import domain_errors
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
        wire = convert.request_to(request)
        with domain_errors("tools"):
            answer = await self._stub.CallTool(wire, metadata=metadata_of(caller))
        return convert.result_from(answer)
