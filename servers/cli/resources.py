"""Agents, tools and models of a mesh: list, get, delete, call."""

from astromesh.agents.v1 import agent_pb2 as agents_pb
from astromesh.agents.v1.agent_service_pb2_grpc import AgentServiceStub
from astromesh.router.v1 import provider_pb2 as router_pb
from astromesh.router.v1.router_service_pb2_grpc import RouterServiceStub
from astromesh.tools.v1 import tool_service_pb2 as tools_pb
from astromesh.tools.v1.tool_service_pb2_grpc import ToolServiceStub

from servers.cli.choices import Output
from servers.cli.client import PATIENCE, connected
from servers.cli.failures import FAILED
from servers.cli.output import Columns, show_all, show_one
from servers.cli.paging import paged
from servers.cli.text import clean

_AGENT: Columns = {
    "NAME": lambda agent: agent.metadata.name,
    "VERSION": lambda agent: agent.metadata.version,
    "READY": lambda agent: agent.status.ready,
    "SOURCE": lambda agent: agent.status.source,
    "REASON": lambda agent: agent.status.reason,
}
_TOOL: Columns = {
    "NAME": lambda tool: tool.name,
    "TYPE": lambda tool: tool.type,
    "DESCRIPTION": lambda tool: tool.description.partition("\n")[0],
}
_MODEL: Columns = {
    "PROVIDER": lambda model: model.provider,
    "MODEL": lambda model: model.model,
    "CONTEXT": lambda model: model.context_window or None,
    "TOOLS": lambda model: model.tools if model.HasField("tools") else None,
    "VISION": lambda model: model.vision if model.HasField("vision") else None,
    "IN $/M": lambda model: model.input_price if model.HasField("input_price") else None,
    "OUT $/M": lambda model: model.output_price if model.HasField("output_price") else None,
}
_RESULT: Columns = {
    "outcome": lambda result: tools_pb.ToolOutcome.Name(result.outcome)[13:].lower(),
    "content": lambda result: result.content,
}


async def list_agents(address: str, form: Output) -> None:
    async with connected(address) as channel:
        ask = AgentServiceStub(channel).ListAgents
        found = [each async for each in paged(ask, agents_pb.ListAgentsRequest(), "agents")]
    show_all(found, _AGENT, form)


async def get_agent(address: str, name: str, form: Output) -> None:
    async with connected(address) as channel:
        request = agents_pb.GetAgentRequest(agent=name)
        found = await AgentServiceStub(channel).GetAgent(request, timeout=PATIENCE)
    show_one(found, _AGENT, form)


async def delete_agent(address: str, name: str) -> None:
    async with connected(address) as channel:
        request = agents_pb.DeleteAgentRequest(agent=name)
        await AgentServiceStub(channel).DeleteAgent(request, timeout=PATIENCE)
    print(f"deleted {name}")


async def list_tools(address: str, form: Output) -> None:
    async with connected(address) as channel:
        ask = ToolServiceStub(channel).ListTools
        found = [each async for each in paged(ask, tools_pb.ListToolsRequest(), "tools")]
    show_all(found, _TOOL, form)


async def call_tool(address: str, name: str, arguments: str, form: Output) -> int:
    async with connected(address) as channel:
        request = tools_pb.CallToolRequest(tool=name, arguments_json=arguments)
        result = await ToolServiceStub(channel).CallTool(request)
    worked = result.outcome == tools_pb.TOOL_OUTCOME_OK
    if form is Output.TABLE and worked:
        print(clean(result.content))
    else:
        show_one(result, _RESULT, form)
    return 0 if worked else FAILED


async def list_models(address: str, form: Output) -> None:
    async with connected(address) as channel:
        request = router_pb.ListModelsRequest()
        answer = await RouterServiceStub(channel).ListModels(request, timeout=PATIENCE)
    show_all(answer.models, _MODEL, form)
