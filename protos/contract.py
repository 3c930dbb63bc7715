"""The contract as it stands in a descriptor set: messages, RPCs, their REST paths, and prose."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

OURS = "astromesh."
SERVED = (OURS, "google.longrunning")  # packages whose services are ours to serve


@dataclass(frozen=True, slots=True)
class Binding:
    """One way to call an RPC over HTTP."""

    verb: str
    path: str
    body: str  # "*", the name of a field, or empty


@dataclass(frozen=True, slots=True)
class Contract:
    """Everything by its full name, with a leading dot as in a descriptor's type names."""

    messages: dict[str, DescriptorProto] = field(default_factory=dict)
    enums: dict[str, EnumDescriptorProto] = field(default_factory=dict)
    services: dict[str, ServiceDescriptorProto] = field(default_factory=dict)
    comments: dict[str, str] = field(default_factory=dict)

    def fields(self, message: str) -> dict[str, FieldDescriptorProto]:
        return {field.name: field for field in self.messages[message].field}


def read(descriptors: bytes) -> Contract:
    contract = Contract()
    for file in FileDescriptorSet.FromString(descriptors).file:
        scope = f".{file.package}" if file.package else ""
        for message in file.message_type:
            _index_message(contract, scope, message)
        for enum in file.enum_type:
            contract.enums[f"{scope}.{enum.name}"] = enum
        if file.package.startswith(SERVED):
            contract.services.update({f"{scope}.{s.name}": s for s in file.service})
            contract.comments.update(_comments(file, scope))
    return contract


def bindings(method: MethodDescriptorProto) -> Iterator[Binding]:
    """The HTTP paths of an RPC, the main one first. None: the RPC is for gRPC alone."""
    rule = method.options.Extensions[annotations_pb2.http]
    if rule.WhichOneof("pattern"):
        yield _binding(rule)
    for additional in rule.additional_bindings:
        yield _binding(additional)


def _binding(rule: http_pb2.HttpRule) -> Binding:
    verb = rule.WhichOneof("pattern") or "custom"
    if verb == "custom":
        raise ValueError(f"this HTTP binding has no verb that we know: {rule}")
    return Binding(verb, getattr(rule, verb), rule.body)


def _index_message(contract: Contract, scope: str, message: DescriptorProto) -> None:
    name = f"{scope}.{message.name}"
    contract.messages[name] = message
    for nested in message.nested_type:
        _index_message(contract, name, nested)
    for enum in message.enum_type:
        contract.enums[f"{name}.{enum.name}"] = enum


def _comments(file: FileDescriptorProto, scope: str) -> Iterator[tuple[str, str]]:
    """The prose above every message, field, enum, value, service and RPC, by full name."""
    for location in file.source_code_info.location:
        if location.leading_comments:
            yield _name_at(file, scope, list(location.path)), _prose(location.leading_comments)


def _name_at(file: FileDescriptorProto, scope: str, path: list[int]) -> str:
    """The full name of what a path of field numbers and positions leads to."""
    here: object = file
    while len(path) >= 2:
        number, index, *path = path
        here = getattr(here, here.DESCRIPTOR.fields_by_number[number].name)[index]  # type: ignore[attr-defined]
        scope = f"{scope}.{here.name}"  # type: ignore[attr-defined]
    return scope


def _prose(comment: str) -> str:
    """A comment without the blank that follows its slashes."""
    return "\n".join(line.removeprefix(" ").rstrip() for line in comment.strip("\n").split("\n"))
