"""Tools, calls and results between the wire and the domain."""

from collections.abc import Iterable, Sequence

from astromesh.tools.v1 import tool_service_pb2 as pb
from google.protobuf import json_format, struct_pb2

from servers.domain.chat import Json, ToolSpec
from servers.domain.tools import Outcome, Tool, ToolRequest, ToolResult
from servers.kernel import paging

_OUTCOMES = {
    pb.TOOL_OUTCOME_OK: Outcome.OK,
    pb.TOOL_OUTCOME_ERROR: Outcome.ERROR,
    pb.TOOL_OUTCOME_TIMEOUT: Outcome.TIMEOUT,
    pb.TOOL_OUTCOME_UNKNOWN: Outcome.UNKNOWN,
}
_WIRE_OUTCOMES = {outcome: number for number, outcome in _OUTCOMES.items()}
_LIST = "tools"  # what a page token of ListTools belongs to


def tool_to(tool: Tool) -> pb.Tool:
    return pb.Tool(
        name=tool.name,
        type=tool.kind,
        description=tool.spec.description,
        parameters=_struct(tool.spec.parameters),
        idempotent=tool.idempotent,
        timeout_seconds=tool.timeout,
    )


def tool_from(wire: pb.Tool) -> Tool:
    spec = ToolSpec(wire.name, wire.description, json_format.MessageToDict(wire.parameters))
    return Tool(spec, wire.type, wire.idempotent, wire.timeout_seconds)


def page_to(tools: Sequence[Tool], request: pb.ListToolsRequest) -> pb.ListToolsResponse:
    """The part of `tools`, which are in order of name, that the request asks for."""
    limit = paging.page_limit(request.page_size)
    after = ""
    if request.page_token:
        (after,) = paging.position(_LIST, request.page_token, str)
    rest = [tool for tool in tools if tool.name > after]
    more = len(rest) > limit
    return pb.ListToolsResponse(
        tools=[tool_to(tool) for tool in rest[:limit]],
        next_page_token=paging.token(_LIST, rest[limit - 1].name) if more else "",
    )


def tools_from(wire: Iterable[pb.Tool]) -> list[Tool]:
    return [tool_from(tool) for tool in wire]


def request_to(request: ToolRequest) -> pb.CallToolRequest:
    return pb.CallToolRequest(
        tool=_sendable(request.name),
        arguments_json=_sendable(request.arguments),
        idempotency_key=request.idempotency_key,
        timeout_seconds=request.timeout,
        max_result_tokens=request.max_result_tokens,
        context=_struct(request.context),
    )


def request_from(wire: pb.CallToolRequest) -> ToolRequest:
    as_object = wire.HasField("arguments")
    return ToolRequest(
        wire.tool,
        json_format.MessageToJson(wire.arguments, indent=None)
        if as_object
        else wire.arguments_json,
        wire.idempotency_key,
        wire.timeout_seconds if wire.HasField("timeout_seconds") else None,
        wire.max_result_tokens if wire.HasField("max_result_tokens") else None,
        json_format.MessageToDict(wire.context),
    )


def result_to(result: ToolResult) -> pb.CallToolResponse:
    return pb.CallToolResponse(
        content=result.content,
        outcome=_WIRE_OUTCOMES[result.outcome],
        truncated_tokens=result.truncated_tokens,
        duration_seconds=result.duration,
    )


def result_from(wire: pb.CallToolResponse) -> ToolResult:
    """An outcome from a newer server counts as UNKNOWN: nobody can say what it means."""
    return ToolResult(
        wire.content,
        _OUTCOMES.get(wire.outcome, Outcome.UNKNOWN),
        wire.truncated_tokens,
        wire.duration_seconds,
    )


def _struct(value: Json) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(dict(value))
    return struct


def _sendable(text: str) -> str:
    """Half surrogate pairs, which models do write, as "?": protobuf refuses them."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()
