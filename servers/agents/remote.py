"""`Agents` answered by another process: same calls, same values, same errors."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

import grpc
from astromesh.agents.v1 import (
    agent_pb2,
    agent_service_pb2_grpc,
    graph_pb2,
    run_deletion_pb2,
    run_event_pb2,
    run_pb2,
)
from astromesh.agents.v1 import agent_service_pb2 as pb
from google.protobuf import field_mask_pb2, json_format

from servers.agents.convert import agents as convert_agent
from servers.agents.convert import events as convert_events
from servers.agents.convert import graphs as convert_graph
from servers.agents.convert import requests as convert
from servers.agents.convert import runs as convert_runs
from servers.domain.agents import AgentPage, AgentRecord
from servers.domain.caller import Caller
from servers.domain.chat import Json
from servers.domain.graphs import Graph
from servers.domain.run_events import RunEvent
from servers.domain.runs import (
    Decision,
    OnDisconnect,
    Purged,
    Run,
    RunFilter,
    RunPage,
    RunRequest,
    RunSelection,
)
from servers.kernel.calls import metadata_of
from servers.kernel.errors import InvalidInput
from servers.kernel.status import domain_errors


class RemoteAgents:
    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = agent_service_pb2_grpc.AgentServiceStub(channel)

    async def run(self, caller: Caller, request: RunRequest) -> Run:
        with domain_errors():
            wire = await self._stub.RunAgent(
                convert.run_request_to(request),
                metadata=metadata_of(caller),
                timeout=request.deadline,
            )
        return convert_runs.run_from(wire, caller.tenant)

    async def stream(
        self, caller: Caller, request: RunRequest, on_disconnect: OnDisconnect | None = None
    ) -> AsyncGenerator[RunEvent, None]:
        call = self._stub.StreamAgent(
            convert.stream_request_to(request, on_disconnect),
            metadata=metadata_of(caller),
            timeout=request.deadline,
        )
        async with aclosing(_heard(call, caller)) as events:
            async for event in events:
                yield event

    async def create_run(self, caller: Caller, request: RunRequest) -> Run:
        with domain_errors():
            wire = await self._stub.CreateRun(
                convert.create_request_to(request), metadata=metadata_of(caller)
            )
        return convert_runs.run_from(wire, caller.tenant)

    async def get_run(self, caller: Caller, run_id: str) -> Run:
        with domain_errors():
            wire = await self._stub.GetRun(
                run_pb2.GetRunRequest(run=run_id), metadata=metadata_of(caller)
            )
        return convert_runs.run_from(wire, caller.tenant)

    async def list_runs(
        self, caller: Caller, where: RunFilter, page_size: int = 0, page_token: str = ""
    ) -> RunPage:
        with domain_errors():
            wire = await self._stub.ListRuns(
                convert.filter_to(where, page_size, page_token), metadata=metadata_of(caller)
            )
        return convert_runs.runs_from(wire, caller.tenant)

    async def events(
        self, caller: Caller, run_id: str, after_sequence: int = 0, past_only: bool = False
    ) -> AsyncGenerator[RunEvent, None]:
        call = self._stub.StreamRunEvents(
            run_event_pb2.StreamRunEventsRequest(
                run=run_id, after_sequence=after_sequence, past_only=past_only
            ),
            metadata=metadata_of(caller),
        )
        async with aclosing(_heard(call, caller)) as events:
            async for event in events:
                yield event

    async def run_tree(self, caller: Caller, run_id: str) -> Graph:
        with domain_errors():
            wire = await self._stub.GetRunTree(
                graph_pb2.GetRunTreeRequest(run=run_id), metadata=metadata_of(caller)
            )
        return convert_graph.graph_from(wire)

    async def cancel(self, caller: Caller, run_id: str, reason: str = "") -> Run:
        with domain_errors():
            wire = await self._stub.CancelRun(
                run_pb2.CancelRunRequest(run=run_id, reason=reason), metadata=metadata_of(caller)
            )
        return convert_runs.run_from(wire, caller.tenant)

    async def delete_run(self, caller: Caller, run_id: str, force: bool = False) -> None:
        request = run_deletion_pb2.DeleteRunRequest(run=run_id, force=force)
        with domain_errors():
            await self._stub.DeleteRun(request, metadata=metadata_of(caller))

    async def purge_runs(
        self,
        caller: Caller,
        which: RunSelection,
        *,
        force: bool = False,
        validate_only: bool = False,
    ) -> Purged:
        request = convert.selection_to(which, force, validate_only)
        with domain_errors():
            wire = await self._stub.PurgeRuns(request, metadata=metadata_of(caller))
        return convert.purged_from(wire)

    async def resume(
        self, caller: Caller, run_id: str, decision: Decision, wait: bool = False
    ) -> Run:
        with domain_errors():
            wire = await self._stub.ResumeRun(
                convert.resume_to(run_id, decision, wait), metadata=metadata_of(caller)
            )
        return convert_runs.run_from(wire, caller.tenant)

    async def list(self, caller: Caller, page_size: int = 0, page_token: str = "") -> AgentPage:
        request = agent_pb2.ListAgentsRequest(page_size=page_size, page_token=page_token)
        with domain_errors():
            wire = await self._stub.ListAgents(request, metadata=metadata_of(caller))
        return convert_agent.agents_from(wire)

    async def get(self, caller: Caller, name: str) -> AgentRecord:
        with domain_errors():
            wire = await self._stub.GetAgent(
                agent_pb2.GetAgentRequest(agent=name), metadata=metadata_of(caller)
            )
        return convert_agent.agent_from(wire)

    async def agent_graph(self, caller: Caller, name: str) -> Graph:
        with domain_errors():
            wire = await self._stub.GetAgentGraph(
                graph_pb2.GetAgentGraphRequest(agent=name), metadata=metadata_of(caller)
            )
        return convert_graph.graph_from(wire)

    async def create(
        self, caller: Caller, manifest: Json, validate_only: bool = False
    ) -> AgentRecord:
        request = agent_pb2.CreateAgentRequest(agent=_agent(manifest), validate_only=validate_only)
        with domain_errors():
            wire = await self._stub.CreateAgent(request, metadata=metadata_of(caller))
        return convert_agent.agent_from(wire)

    async def update(
        self,
        caller: Caller,
        manifest: Json,
        *,
        fields: Sequence[str] = (),
        etag: str = "",
        allow_missing: bool = False,
        validate_only: bool = False,
    ) -> AgentRecord:
        request = agent_pb2.UpdateAgentRequest(
            agent=_agent(manifest, etag),
            update_mask=field_mask_pb2.FieldMask(paths=fields),
            allow_missing=allow_missing,
            validate_only=validate_only,
        )
        with domain_errors():
            wire = await self._stub.UpdateAgent(request, metadata=metadata_of(caller))
        return convert_agent.agent_from(wire)

    async def delete(
        self, caller: Caller, name: str, etag: str = "", validate_only: bool = False
    ) -> None:
        request = agent_pb2.DeleteAgentRequest(agent=name, etag=etag, validate_only=validate_only)
        with domain_errors():
            await self._stub.DeleteAgent(request, metadata=metadata_of(caller))


def _agent(manifest: Json, etag: str = "") -> agent_pb2.Agent:
    """A manifest that has keys which no message has can't be sent."""
    try:
        return convert_agent.manifest_to(dict(manifest), etag)
    except json_format.ParseError as error:
        raise InvalidInput(str(error), reason="MANIFEST_INVALID") from error


async def _heard(
    call: "grpc.aio.UnaryStreamCall[pb.StreamAgentRequest, run_event_pb2.RunEvent]"
    " | grpc.aio.UnaryStreamCall[run_event_pb2.StreamRunEventsRequest, run_event_pb2.RunEvent]",
    caller: Caller,
) -> AsyncGenerator[RunEvent, None]:
    try:
        with domain_errors():
            async for wire in call:
                if event := convert_events.event_from(wire, caller.tenant):
                    yield event
    finally:
        call.cancel()  # no effect on a call that has ended
