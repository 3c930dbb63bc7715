"""The second client reads and writes the same bytes as the first, for every message."""

import importlib
import re
from pathlib import Path

import pytest
from astromesh_client.google.rpc import ErrorInfo
from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.rpc import error_details_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

GEN = Path(__file__).resolve().parents[2] / "gen"

WHOLE = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_UINT32: st.integers(0, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: st.integers(0, 2**64 - 1),
}
# The other client takes -0.0 for the default and leaves it out.
PLUS_ZERO = 0.0
SCALARS = WHOLE | {
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False).map(PLUS_ZERO.__add__),
    FieldDescriptor.CPPTYPE_FLOAT: st.floats(allow_nan=False, width=32).map(PLUS_ZERO.__add__),
    FieldDescriptor.CPPTYPE_STRING: st.text(max_size=9),
}


def scalars(field):
    if field.type == FieldDescriptor.TYPE_BYTES:
        return st.binary(max_size=9)
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return st.sampled_from([value.number for value in field.enum_type.values])
    return SCALARS[field.cpp_type]


@st.composite
def messages(draw, kind, depth=3):
    """Any message of a kind, a few levels deep."""
    message = message_factory.GetMessageClass(kind)()
    if kind.full_name == "google.protobuf.Timestamp":  # The other client has microseconds.
        message.FromMicroseconds(draw(st.integers(0, 2**50)))
        return message
    for field in draw(st.sets(st.sampled_from([None, *kind.fields]), max_size=5)) - {None}:
        if field.message_type is None:
            fill_scalar(draw, message, field)
        elif depth and field.message_type.GetOptions().map_entry:
            fill_map(draw, message, field, depth)
        elif depth:
            inner = draw(messages(field.message_type, depth - 1))
            into = getattr(message, field.name)
            (into.add() if field.is_repeated else into).MergeFrom(inner)
    return message


def fill_scalar(draw, message, field):
    if field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(scalars(field), max_size=2)))
    else:
        setattr(message, field.name, draw(scalars(field)))


def fill_map(draw, message, field, depth):
    entry = field.message_type
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    into = getattr(message, field.name)
    name = draw(scalars(key))
    if value.message_type is None:
        into[name] = draw(scalars(value))
    else:
        into[name].CopyFrom(draw(messages(value.message_type, depth - 1)))


def twins():
    """(message class of grpcio's client, message class of the other one), for every message."""
    for path in sorted(GEN.glob("astromesh/*/v1/*_pb2.py")):
        package = ".".join(path.parent.relative_to(GEN).parts)
        first = importlib.import_module(f"{package}.{path.stem}")
        second = importlib.import_module(f"astromesh_client.{package}")
        for name in first.DESCRIPTOR.message_types_by_name:
            yield pytest.param(getattr(first, name), getattr(second, name), id=f"{package}.{name}")


@pytest.mark.parametrize(("first", "second"), [*twins()])
@settings(max_examples=10, derandomize=True)
@given(data=st.data())
def test_what_one_writes_the_other_reads_and_writes_back(first, second, data):
    message = data.draw(messages(first.DESCRIPTOR))
    back = bytes(second.parse(message.SerializeToString()))
    assert first.FromString(back) == message


def test_it_has_every_rpc(services):
    for service in services:
        client = importlib.import_module(f"astromesh_client.{service.file.package}")
        stub = getattr(client, f"{service.name}Stub")
        assert [rpc.name for rpc in service.methods if not hasattr(stub, snake(rpc.name))] == []


def test_it_reads_the_details_of_errors():
    info = error_details_pb2.ErrorInfo(reason="NOT_FOUND", metadata={"agent": "nobody"})
    read = ErrorInfo.parse(info.SerializeToString())
    assert (read.reason, read.metadata) == ("NOT_FOUND", {"agent": "nobody"})


def snake(name):
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
