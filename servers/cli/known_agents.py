"""Whether there is an agent of a name: its memory has nothing of one that was spelt wrong."""

import grpc
from astromesh.agents.v1.agent_pb2 import GetAgentRequest
from astromesh.agents.v1.agent_service_pb2_grpc import AgentServiceStub

from servers.cli.client import PATIENCE


async def check_known(channel: grpc.aio.Channel, agent: str) -> None:
    """Raises what the mesh says of a name that it doesn't know. A process of the memory service
    alone knows none, and is not asked."""
    try:
        await AgentServiceStub(channel).GetAgent(GetAgentRequest(agent=agent), timeout=PATIENCE)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise
