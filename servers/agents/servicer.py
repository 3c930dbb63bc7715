"""The agent service on the wire: decode, delegate, encode."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from astromesh.agents.v1 import (
    agent_pb2,
    agent_service_pb2_grpc,
    ask_pb2,
    graph_pb2,
    run_deletion_pb2,
    run_event_pb2,
    run_pb2,
)
from astromesh.agents.v1 import agent_service_pb2 as pb
from google.protobuf import empty_pb2

from servers.agents.conversation import Conversation
from servers.agents.convert import agents as convert_agent
from servers.agents.convert import events as convert_events
from servers.agents.convert import graphs as convert_graph
from servers.agents.convert import requests as convert
from servers.agents.convert import runs as convert_runs
from servers.agents.convert.requests import bare
from servers.domain.run_events import RunEvent
from servers.domain.services import Agents
from servers.kernel.calls import Context, caller_from, deadline_from


class AgentServicer(agent_service_pb2_grpc.AgentServiceServicer):
    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def RunAgent(self, request: pb.RunAgentRequest, context: Context) -> run_pb2.Run:
        work = convert.request_from(request, deadline_from(context))
        return convert_runs.run_to(await self._agents.run(caller_from(context), work))

    async def StreamAgent(
        self, request: pb.StreamAgentRequest, context: Context
    ) -> AsyncGenerator[run_event_pb2.RunEvent, None]:
        work = convert.request_from(request, deadline_from(context))
        policy = convert.on_disconnect_from(request)
        async with aclosing(_told(self._agents.stream(caller_from(context), work, policy))) as told:
            async for event in told:
                yield event

    async def Chat(
        self, requests: AsyncIterator[pb.ChatRequest], context: Context
    ) -> AsyncGenerator[run_event_pb2.RunEvent, None]:
        conversation = Conversation(self._agents, caller_from(context))
        async for request in requests:
            work = convert.request_from(request, deadline_from(context))
            async with aclosing(_told(conversation.say(work))) as told:
                async for event in told:
                    yield event

    async def CreateRun(self, request: pb.CreateRunRequest, context: Context) -> run_pb2.Run:
        work = convert.request_from(request, None)
        return convert_runs.run_to(await self._agents.create_run(caller_from(context), work))

    async def GetRun(self, request: run_pb2.GetRunRequest, context: Context) -> run_pb2.Run:
        run_id = bare(request.run, "runs")
        return convert_runs.run_to(await self._agents.get_run(caller_from(context), run_id))

    async def ListRuns(
        self, request: run_pb2.ListRunsRequest, context: Context
    ) -> run_pb2.ListRunsResponse:
        where = convert.filter_from(request)
        page = await self._agents.list_runs(
            caller_from(context), where, request.page_size, request.page_token
        )
        return convert_runs.runs_to(page)

    async def StreamRunEvents(
        self, request: run_event_pb2.StreamRunEventsRequest, context: Context
    ) -> AsyncGenerator[run_event_pb2.RunEvent, None]:
        events = self._agents.events(
            caller_from(context),
            bare(request.run, "runs"),
            request.after_sequence,
            request.past_only,
        )
        async with aclosing(_told(events)) as told:
            async for event in told:
                yield event

    async def GetRunTree(
        self, request: graph_pb2.GetRunTreeRequest, context: Context
    ) -> graph_pb2.Graph:
        run_id = bare(request.run, "runs")
        graph = await self._agents.run_tree(caller_from(context), run_id)
        return convert_graph.graph_to(graph)

    async def CancelRun(self, request: run_pb2.CancelRunRequest, context: Context) -> run_pb2.Run:
        run_id = bare(request.run, "runs")
        run = await self._agents.cancel(caller_from(context), run_id, request.reason)
        return convert_runs.run_to(run)

    async def DeleteRun(
        self, request: run_deletion_pb2.DeleteRunRequest, context: Context
    ) -> empty_pb2.Empty:
        run_id = bare(request.run, "runs")
        await self._agents.delete_run(caller_from(context), run_id, request.force)
        return empty_pb2.Empty()

    async def PurgeRuns(
        self, request: run_deletion_pb2.PurgeRunsRequest, context: Context
    ) -> run_deletion_pb2.PurgeRunsResponse:
        purged = await self._agents.purge_runs(
            caller_from(context),
            convert.selection_from(request),
            force=request.force,
            validate_only=request.validate_only,
        )
        return convert.purged_to(purged)

    async def ResumeRun(self, request: ask_pb2.ResumeRunRequest, context: Context) -> run_pb2.Run:
        run_id, decision = bare(request.run, "runs"), convert.decision_from(request)
        run = await self._agents.resume(caller_from(context), run_id, decision, request.wait)
        return convert_runs.run_to(run)

    async def ListAgents(
        self, request: agent_pb2.ListAgentsRequest, context: Context
    ) -> agent_pb2.ListAgentsResponse:
        page = await self._agents.list(caller_from(context), request.page_size, request.page_token)
        return convert_agent.agents_to(page)

    async def GetAgent(
        self, request: agent_pb2.GetAgentRequest, context: Context
    ) -> agent_pb2.Agent:
        name = bare(request.agent, "agents")
        return convert_agent.agent_to(await self._agents.get(caller_from(context), name))

    async def GetAgentGraph(
        self, request: graph_pb2.GetAgentGraphRequest, context: Context
    ) -> graph_pb2.Graph:
        name = bare(request.agent, "agents")
        graph = await self._agents.agent_graph(caller_from(context), name)
        return convert_graph.graph_to(graph)

    async def CreateAgent(
        self, request: agent_pb2.CreateAgentRequest, context: Context
    ) -> agent_pb2.Agent:
        manifest = convert_agent.manifest_from(request.agent)
        record = await self._agents.create(caller_from(context), manifest, request.validate_only)
        return convert_agent.agent_to(record)

    async def UpdateAgent(
        self, request: agent_pb2.UpdateAgentRequest, context: Context
    ) -> agent_pb2.Agent:
        record = await self._agents.update(
            caller_from(context),
            convert_agent.manifest_from(request.agent),
            fields=tuple(request.update_mask.paths),
            etag=request.agent.etag,
            allow_missing=request.allow_missing,
            validate_only=request.validate_only,
        )
        return convert_agent.agent_to(record)

    async def DeleteAgent(
        self, request: agent_pb2.DeleteAgentRequest, context: Context
    ) -> empty_pb2.Empty:
        name = bare(request.agent, "agents")
        await self._agents.delete(caller_from(context), name, request.etag, request.validate_only)
        return empty_pb2.Empty()


async def _told(
    events: AsyncGenerator[RunEvent, None],
) -> AsyncGenerator[run_event_pb2.RunEvent, None]:
    """Closing this closes `events`: a cancelled call frees what is behind it."""
    async with aclosing(events):
        async for event in events:
            yield convert_events.event_to(event)
