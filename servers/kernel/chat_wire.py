"""Chat values between the wire and the domain, for every service whose messages hold them.

Total functions, no decisions, no I/O. Wrong input is InvalidInput naming the field.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from astromesh.common.v1 import chat_pb2 as pb
from google.protobuf import json_format, struct_pb2, timestamp_pb2

from servers.domain.chat import (
    FinishReason,
    Image,
    Json,
    Message,
    Part,
    Role,
    Sampling,
    Text,
    ToolCall,
    ToolSpec,
    Usage,
)
from servers.kernel.errors import InvalidInput, Violation

_ROLES = {
    pb.ROLE_SYSTEM: Role.SYSTEM,
    pb.ROLE_USER: Role.USER,
    pb.ROLE_ASSISTANT: Role.ASSISTANT,
    pb.ROLE_TOOL: Role.TOOL,
}
_WIRE_ROLES = {role: number for number, role in _ROLES.items()}
_FINISHES = {
    pb.FINISH_REASON_UNSPECIFIED: FinishReason.STOP,
    pb.FINISH_REASON_STOP: FinishReason.STOP,
    pb.FINISH_REASON_LENGTH: FinishReason.LENGTH,
    pb.FINISH_REASON_TOOL_CALLS: FinishReason.TOOL_CALLS,
    pb.FINISH_REASON_CONTENT_FILTER: FinishReason.CONTENT_FILTER,
}
_WIRE_FINISHES = {reason: number for number, reason in _FINISHES.items()}


def refused(field: str, description: str) -> InvalidInput:
    """The error of one wrong field."""
    return InvalidInput(
        f"{field}: {description}",
        reason="INVALID_REQUEST",
        violations=(Violation(field, description),),
    )


# -- messages ------------------------------------------------------------------------------


def messages_from(wire: Iterable[pb.Message], field: str = "messages") -> tuple[Message, ...]:
    return tuple(
        message_from(message, f"{field}[{position}]") for position, message in enumerate(wire)
    )


def message_from(wire: pb.Message, field: str = "message") -> Message:
    if wire.role not in _ROLES:
        raise refused(f"{field}.role", "say who speaks: SYSTEM, USER, ASSISTANT or TOOL")
    text = (Text(wire.text),) if wire.text else ()
    return Message(
        _ROLES[wire.role],
        (*text, *_parts_from(wire.parts)),
        tool_calls_from(wire.tool_calls),
        wire.tool_call_id,
        wire.reasoning,
    )


def messages_to(messages: Iterable[Message]) -> list[pb.Message]:
    return [message_to(message) for message in messages]


def message_to(message: Message) -> pb.Message:
    wire = pb.Message(
        role=_WIRE_ROLES[message.role],
        tool_calls=tool_calls_to(message.tool_calls),
        tool_call_id=message.tool_call_id,
        reasoning=message.reasoning,
    )
    match message.parts:
        case (Text(text), *rest):
            wire.text = text
            wire.parts.extend(map(_part_to, rest))
        case parts:
            wire.parts.extend(map(_part_to, parts))
    return wire


def _parts_from(wire: Iterable[pb.Part]) -> Iterator[Part]:
    for part in wire:
        match part.WhichOneof("content"):
            case "text":
                yield Text(part.text)
            case "image":
                yield Image(part.image.url, part.image.data, part.image.media_type)
            case _:  # of a newer contract: a reader ignores it
                continue


def _part_to(part: Part) -> pb.Part:
    match part:
        case Text(text):
            return pb.Part(text=text)
        case Image(url, data, media_type):
            image = pb.Image(media_type=media_type)
            if data:
                image.data = data
            else:
                image.url = url
            return pb.Part(image=image)


def tool_calls_from(wire: Iterable[pb.ToolCall]) -> tuple[ToolCall, ...]:
    return tuple(ToolCall(call.id, call.name, call.arguments) for call in wire)


def tool_calls_to(calls: Iterable[ToolCall]) -> list[pb.ToolCall]:
    return [pb.ToolCall(id=call.id, name=call.name, arguments=call.arguments) for call in calls]


# -- how a model is asked, and how it ends -------------------------------------------------


def tool_specs_from(wire: Iterable[pb.ToolSpec]) -> tuple[ToolSpec, ...]:
    return tuple(ToolSpec(spec.name, spec.description, json_from(spec.parameters)) for spec in wire)


def tool_specs_to(specs: Iterable[ToolSpec]) -> list[pb.ToolSpec]:
    return [
        pb.ToolSpec(
            name=spec.name, description=spec.description, parameters=json_to(spec.parameters)
        )
        for spec in specs
    ]


def sampling_from(wire: pb.Sampling) -> Sampling:
    return Sampling(
        temperature=wire.temperature if wire.HasField("temperature") else None,
        top_p=wire.top_p if wire.HasField("top_p") else None,
        max_tokens=wire.max_tokens if wire.HasField("max_tokens") else None,
        stop=tuple(wire.stop),
        seed=wire.seed if wire.HasField("seed") else None,
        extra=json_from(wire.extra),
    )


def sampling_to(sampling: Sampling) -> pb.Sampling:
    return pb.Sampling(
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        max_tokens=sampling.max_tokens,
        stop=sampling.stop,
        seed=sampling.seed,
        extra=json_to(sampling.extra) if sampling.extra else None,
    )


def usage_from(wire: pb.Usage) -> Usage:
    return Usage(
        wire.prompt_tokens,
        wire.completion_tokens,
        wire.cached_tokens,
        wire.cost_usd if wire.HasField("cost_usd") else None,
        wire.estimated,
    )


def usage_to(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        total_tokens=usage.prompt_tokens + usage.completion_tokens,
        cost_usd=usage.cost_usd,
        estimated=usage.estimated,
    )


def finish_reason_from(wire: "pb.FinishReason.ValueType") -> FinishReason:
    return _FINISHES.get(wire, FinishReason.STOP)


def finish_reason_to(reason: FinishReason) -> "pb.FinishReason.ValueType":
    return _WIRE_FINISHES[reason]


# -- JSON and time -------------------------------------------------------------------------


def json_from(wire: struct_pb2.Struct) -> dict[str, Any]:
    """A Struct as JSON. It knows only doubles: a whole number comes back as an int."""
    return {key: _value_from(value) for key, value in wire.fields.items()}


def _value_from(value: struct_pb2.Value) -> Any:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return json_from(value.struct_value)
        case "list_value":
            return [_value_from(item) for item in value.list_value.values]
    return None


def json_to(value: Json | Mapping[str, Any]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    json_format.ParseDict(dict(value), struct)
    return struct


def time_from(wire: timestamp_pb2.Timestamp) -> float:
    return wire.seconds + wire.nanos / 1e9


def time_to(seconds: float) -> timestamp_pb2.Timestamp:
    whole = int(seconds // 1)
    return timestamp_pb2.Timestamp(seconds=whole, nanos=int((seconds - whole) * 1e9))
