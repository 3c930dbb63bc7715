"""How protobuf's own types look in JSON, as JSON Schemas."""

from typing import Any

from google.protobuf.descriptor_pb2 import FieldDescriptorProto

Schema = dict[str, Any]

INTEGER = {"type": "integer", "format": "int32"}
LONG = {"type": "string", "format": "int64", "pattern": "^-?[0-9]+$"}
SCALARS: dict[int, Schema] = {
    FieldDescriptorProto.TYPE_BOOL: {"type": "boolean"},
    FieldDescriptorProto.TYPE_STRING: {"type": "string"},
    FieldDescriptorProto.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
    FieldDescriptorProto.TYPE_DOUBLE: {"type": "number", "format": "double"},
    FieldDescriptorProto.TYPE_FLOAT: {"type": "number", "format": "float"},
    FieldDescriptorProto.TYPE_INT32: INTEGER,
    FieldDescriptorProto.TYPE_SINT32: INTEGER,
    FieldDescriptorProto.TYPE_SFIXED32: INTEGER,
    FieldDescriptorProto.TYPE_UINT32: {"type": "integer", "format": "int64", "minimum": 0},
    FieldDescriptorProto.TYPE_FIXED32: {"type": "integer", "format": "int64", "minimum": 0},
    FieldDescriptorProto.TYPE_INT64: LONG,
    FieldDescriptorProto.TYPE_SINT64: LONG,
    FieldDescriptorProto.TYPE_SFIXED64: LONG,
    FieldDescriptorProto.TYPE_UINT64: {"type": "string", "format": "uint64"},
    FieldDescriptorProto.TYPE_FIXED64: {"type": "string", "format": "uint64"},
}
# Messages that JSON writes in a way of their own.
WELL_KNOWN: dict[str, Schema] = {
    ".google.protobuf.Any": {
        "type": "object",
        "properties": {"@type": {"type": "string", "description": "Names the type of the rest."}},
        "required": ["@type"],
        "additionalProperties": True,
    },
    ".google.protobuf.Duration": {"type": "string", "examples": ["1.5s"]},
    ".google.protobuf.Empty": {"type": "object"},
    ".google.protobuf.FieldMask": {"type": "string", "examples": ["spec.prompts,metadata.labels"]},
    ".google.protobuf.ListValue": {"type": "array", "items": {}},
    ".google.protobuf.Struct": {"type": "object", "additionalProperties": True},
    ".google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    ".google.protobuf.Value": {},
}
