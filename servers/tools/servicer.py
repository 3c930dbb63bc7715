"""ToolService over gRPC: decode, delegate, encode."""

from astromesh.tools.v1 import tool_service_pb2 as pb
from astromesh.tools.v1 import tool_service_pb2_grpc

from servers.domain.services import Tools
from servers.kernel.calls import Context, caller_from
from servers.tools import convert


class ToolServicer(tool_service_pb2_grpc.ToolServiceServicer):
    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def ListTools(
        self, request: pb.ListToolsRequest, context: Context
    ) -> pb.ListToolsResponse:
        return convert.page_to(await self._tools.list(), request)

    async def GetTool(self, request: pb.GetToolRequest, context: Context) -> pb.Tool:
        return convert.tool_to(await self._tools.get(request.tool))

    async def CallTool(self, request: pb.CallToolRequest, context: Context) -> pb.CallToolResponse:
        call = convert.request_from(request)
        return convert.result_to(await self._tools.call(caller_from(context), call))
