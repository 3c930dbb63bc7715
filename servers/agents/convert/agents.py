"""Agents between the wire and the domain: a manifest's canonical form is the message's JSON."""

from typing import Any

from astromesh.agents.v1 import agent_pb2
from google.protobuf import json_format

from servers.domain.agents import AgentPage, AgentRecord
from servers.kernel.chat_wire import time_from, time_to

_NOT_DECLARED = ("status", "etag")  # what the mesh says of an agent, not what was declared


def agent_to(record: AgentRecord) -> agent_pb2.Agent:
    wire = agent_pb2.Agent()
    json_format.ParseDict(dict(record.manifest), wire)
    wire.etag = record.etag
    wire.status.CopyFrom(
        agent_pb2.AgentStatus(
            ready=record.ready,
            reason=record.reason,
            source=record.source,
            create_time=time_to(record.created_at),
            update_time=time_to(record.updated_at),
        )
    )
    return wire


def manifest_from(wire: agent_pb2.Agent) -> dict[str, Any]:
    manifest = json_format.MessageToDict(wire, preserving_proto_field_name=True)
    return {key: value for key, value in manifest.items() if key not in _NOT_DECLARED}


def agent_from(wire: agent_pb2.Agent) -> AgentRecord:
    return AgentRecord(
        name=wire.metadata.name,
        version=wire.metadata.version,
        manifest=manifest_from(wire),
        etag=wire.etag,
        ready=wire.status.ready,
        reason=wire.status.reason,
        source=wire.status.source,
        created_at=time_from(wire.status.create_time),
        updated_at=time_from(wire.status.update_time),
    )


def manifest_to(manifest: dict[str, Any], etag: str = "") -> agent_pb2.Agent:
    wire = agent_pb2.Agent(etag=etag)
    json_format.ParseDict(manifest, wire, ignore_unknown_fields=False)
    return wire


def agents_to(page: AgentPage) -> agent_pb2.ListAgentsResponse:
    return agent_pb2.ListAgentsResponse(
        agents=[agent_to(record) for record in page.agents], next_page_token=page.next_page_token
    )


def agents_from(wire: agent_pb2.ListAgentsResponse) -> AgentPage:
    return AgentPage(tuple(agent_from(agent) for agent in wire.agents), wire.next_page_token)
