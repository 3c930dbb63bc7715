"""Writes the REST face of the contract as an OpenAPI 3.1 document.

It says what the edge's transcoder does: field names as in the protos, 64-bit integers and
enums as text, streams as JSON lines or server-sent events, errors as google.rpc.Status.
"""

import re
from collections.abc import Iterator

import yaml
from contract import OURS, Binding, Contract, bindings, read
from google.api import field_behavior_pb2
from google.api.field_behavior_pb2 import INPUT_ONLY, OUTPUT_ONLY, REQUIRED, FieldBehavior
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    MethodDescriptorProto,
)
from json_types import SCALARS, WELL_KNOWN, Schema

INFO = {
    "title": "Astromesh",
    "version": "v1",
    "summary": "A runtime for declarative AI agents.",
    "description": (
        "The REST face of the gRPC contract in `protos/`. Fields that are not set are left out"
        " or sent with their default. An unknown path is answered with 404, an unknown query"
        " parameter with 400, and every error in the shape of google.rpc.Status."
    ),
}
REASONS = ".astromesh.common.v1.ErrorReason"
STATUS = ".google.rpc.Status"
# Google's comments aren't ours to read, and we say what callers of this mesh need to know.
STATUS_PROSE = {
    STATUS: "An error. Programs branch on the `reason` of the google.rpc.ErrorInfo in `details`.",
    f"{STATUS}.code": "The gRPC code, e.g. 5 for NOT_FOUND.",
    f"{STATUS}.message": "What is wrong and what to do about it, for people.",
    f"{STATUS}.details": "For programs: ErrorInfo always; RetryInfo, BadRequest where they apply.",
}


def render(descriptors: bytes) -> str:
    """The document as YAML, the same for the same descriptor set."""
    contract = read(descriptors)
    contract.comments.update(STATUS_PROSE)
    return yaml.dump(
        Document(contract).whole(), Dumper=Readable, sort_keys=False, allow_unicode=True, width=100
    )


class Document:
    """An OpenAPI document that grows the schemas its operations mention."""

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.schemas: dict[str, Schema] = {}

    def whole(self) -> Schema:
        paths = self.paths()
        if REASONS in self.contract.enums:
            self.enum(REASONS)  # No field has this type: ErrorInfo's reason is a string.
        error = {"description": "An error.", "content": json_of(self.message(STATUS))}
        return {
            "openapi": "3.1.0",
            "info": INFO,
            "tags": [
                {"name": service.name, "description": self.contract.comments[name]}
                for name, service in sorted(self.contract.services.items())
            ],
            "paths": paths,
            "components": {
                "schemas": dict(sorted(self.schemas.items())),
                "responses": {"Error": error},
            },
        }

    def paths(self) -> dict[str, Schema]:
        paths: dict[str, Schema] = {}
        for name, service in sorted(self.contract.services.items()):
            for method in service.method:
                prose = self.contract.comments[f"{name}.{method.name}"]
                for number, binding in enumerate(bindings(method)):
                    paths.setdefault(url(binding.path), {})[binding.verb] = {
                        "operationId": f"{service.name}_{method.name}"
                        + f"_{number}" * bool(number),
                        "tags": [service.name],
                        "summary": first_sentence(prose),
                        "description": prose if number == 0 else same_as(next(bindings(method))),
                        **self.operation(method, binding),
                    }
        return paths

    def operation(self, method: MethodDescriptorProto, binding: Binding) -> Schema:
        in_path = re.findall(r"{([^=}]+)", binding.path)
        open_ones = [name for name in in_path if f"{{{name}}}" in url(binding.path)]
        operation: Schema = {"parameters": [*self.path_parameters(method.input_type, open_ones)]}
        if binding.body != "*":
            apart = {*in_path, binding.body}
            operation["parameters"] += self.query_parameters(method.input_type, apart)
        if binding.body:
            operation["requestBody"] = {
                "required": True,
                "content": json_of(self.body(method.input_type, binding.body, in_path)),
            }
        operation["responses"] = {
            "200": self.answer(method),
            "default": {"$ref": "#/components/responses/Error"},
        }
        return operation

    def answer(self, method: MethodDescriptorProto) -> Schema:
        schema = self.message(method.output_type)
        if not method.server_streaming:
            return {"description": "OK", "content": json_of(schema)}
        return {
            "description": (
                "A stream: one JSON object a line, or with `Accept: text/event-stream` one"
                " server-sent event each, whose `data` is that object."
            ),
            "content": {**json_of(schema), "text/event-stream": {"schema": schema}},
        }

    def path_parameters(self, message: str, names: list[str]) -> Iterator[Schema]:
        for name in names:
            *outer, last = name.split(".")
            owner = message
            for step in outer:
                owner = self.contract.fields(owner)[step].type_name
            field = self.contract.fields(owner)[last]
            yield self.parameter("path", name, owner, field) | {"required": True}

    def query_parameters(self, message: str, apart: set[str], prefix: str = "") -> Iterator[Schema]:
        """Every field of the request that is neither in the path nor in the body."""
        for name, field in self.contract.fields(message).items():
            if prefix + name in apart:
                continue
            if (
                field.type == FieldDescriptorProto.TYPE_MESSAGE
                and field.type_name not in WELL_KNOWN
            ):
                yield from self.query_parameters(field.type_name, apart, f"{prefix}{name}.")
            else:
                yield self.parameter("query", prefix + name, message, field)

    def parameter(self, where: str, name: str, owner: str, field: FieldDescriptorProto) -> Schema:
        parameter: Schema = {
            "name": name,
            "in": where,
            "description": self.contract.comments[f"{owner}.{field.name}"],
            "schema": self.value(field),
        }
        return parameter | {"required": True} if REQUIRED in behaviour(field) else parameter

    def body(self, message: str, body: str, in_path: list[str]) -> Schema:
        if body != "*":
            return self.value(self.contract.fields(message)[body])
        return self.object(message, without=in_path)

    def message(self, name: str) -> Schema:
        """A mention of a message, which is written down among the schemas."""
        if name in WELL_KNOWN:
            return WELL_KNOWN[name]
        key = name.removeprefix(".").removeprefix(OURS)
        if key not in self.schemas:
            self.schemas[key] = {}  # So that a message may contain itself.
            self.schemas[key] = self.object(name)
        return {"$ref": f"#/components/schemas/{key}"}

    def object(self, name: str, without: list[str] | None = None) -> Schema:
        message = self.contract.messages[name]
        fields = [field for field in message.field if field.name not in (without or ())]
        required = [field.name for field in fields if REQUIRED in behaviour(field)]
        choices = [at_most_one(names) for names in oneofs(message)]
        return {
            "type": "object",
            **self.description(name),
            "properties": {field.name: self.property(name, field) for field in fields},
            **({"required": required} if required else {}),
            **({"allOf": choices} if choices else {}),
        }

    def property(self, owner: str, field: FieldDescriptorProto) -> Schema:
        notes = {
            **self.description(f"{owner}.{field.name}"),
            **({"readOnly": True} if OUTPUT_ONLY in behaviour(field) else {}),
            **({"writeOnly": True} if INPUT_ONLY in behaviour(field) else {}),
        }
        return {**self.value(field), **notes}

    def description(self, name: str) -> Schema:
        prose = self.contract.comments.get(name)
        return {"description": prose} if prose else {}

    def value(self, field: FieldDescriptorProto) -> Schema:
        if field.label != field.LABEL_REPEATED:
            return self.single(field)
        if field.type == FieldDescriptorProto.TYPE_MESSAGE:
            entry = self.contract.messages[field.type_name]
            if entry.options.map_entry:
                return {"type": "object", "additionalProperties": self.single(entry.field[1])}
        return {"type": "array", "items": self.single(field)}

    def single(self, field: FieldDescriptorProto) -> Schema:
        if field.type == FieldDescriptorProto.TYPE_MESSAGE:
            return self.message(field.type_name)
        if field.type == FieldDescriptorProto.TYPE_ENUM:
            return self.enum(field.type_name)
        return dict(SCALARS[field.type])

    def enum(self, name: str) -> Schema:
        key = name.removeprefix(".").removeprefix(OURS)
        values = [value.name for value in self.contract.enums[name].value]
        meanings = [f"  * {value}: {self.contract.comments[f'{name}.{value}']}" for value in values]
        prose = "\n".join([self.contract.comments[name], "", *meanings])
        self.schemas[key] = {"type": "string", "description": prose, "enum": values}
        return {"$ref": f"#/components/schemas/{key}"}


def behaviour(field: FieldDescriptorProto) -> list["FieldBehavior.ValueType"]:
    return list(field.options.Extensions[field_behavior_pb2.field_behavior])


def oneofs(message: DescriptorProto) -> Iterator[list[str]]:
    """The names of the fields that exclude one another, choice by choice."""
    for index in range(len(message.oneof_decl)):
        members = [field for field in message.field if field.HasField("oneof_index")]
        names = [
            field.name
            for field in members
            if field.oneof_index == index and not field.proto3_optional
        ]
        if names:
            yield names


def at_most_one(names: list[str]) -> Schema:
    present = [{"required": [name]} for name in names]
    return {"oneOf": [*present, {"not": {"anyOf": present}}]}


def url(path: str) -> str:
    """A path template without the patterns that OpenAPI can't say: what a pattern begins with
    is part of the path."""
    return re.sub(r"{([^=}]+)=([^}]*?)(\*{0,2})}", _plain, path)


def _plain(found: re.Match[str]) -> str:
    name, beginning, wildcard = found.groups()
    return beginning + (f"{{{name}}}" if wildcard else "")


def first_sentence(prose: str) -> str:
    return re.split(r"(?<=\.)\s", prose.replace("\n", " "), maxsplit=1)[0]


def same_as(main: Binding) -> str:
    return f"Another path for `{main.verb.upper()} {main.path}`."


def json_of(schema: Schema) -> Schema:
    return {"application/json": {"schema": schema}}


class Readable(yaml.SafeDumper):
    """Writes texts of several lines as such, and no anchors."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


Readable.add_representer(str, _text)
