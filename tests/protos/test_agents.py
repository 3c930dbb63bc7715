"""An agent's declaration over the API has what its YAML has: each is the other's JSON."""

import re
from collections.abc import Iterator
from typing import Any, get_args

from astromesh.agents.v1 import agent_pb2
from google.protobuf.descriptor import Descriptor
from pydantic import BaseModel

from servers.agents.manifest import Agent

_SAID_BY_THE_MESH = {"Agent.status", "Agent.etag"}


def models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from models(part)


def wire_name(key: str) -> str:
    return re.sub("[A-Z]", lambda found: f"_{found[0].lower()}", key)


def differences(model: type[BaseModel], message: Descriptor, path: str) -> Iterator[str]:
    keys = {wire_name(field.alias or name): field for name, field in model.model_fields.items()}
    yield from (f"{path}.{name}" for name in keys.keys() ^ message.fields_by_name.keys())
    for name in keys.keys() & message.fields_by_name.keys():
        part = message.fields_by_name[name].message_type
        if part and part.GetOptions().map_entry:
            part = part.fields_by_name["value"].message_type
        if part and not part.full_name.startswith("google."):  # a Struct has any key
            for inner in models(keys[name].annotation):
                yield from differences(inner, part, f"{path}.{name}")


def test_every_key_of_the_manifest_is_a_field_of_the_message():
    assert set(differences(Agent, agent_pb2.Agent.DESCRIPTOR, "Agent")) == _SAID_BY_THE_MESH
