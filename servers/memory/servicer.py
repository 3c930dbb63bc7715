"""MemoryService over gRPC: decode, delegate, encode."""

from astromesh.memory.v1 import memory_service_pb2 as pb
from astromesh.memory.v1 import memory_service_pb2_grpc

from servers.domain.memory import SessionKey
from servers.domain.services import Memory
from servers.kernel.calls import Context, caller_from
from servers.kernel.chat_wire import messages_from
from servers.memory import convert


class MemoryServicer(memory_service_pb2_grpc.MemoryServiceServicer):
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def AppendTurns(
        self, request: pb.AppendTurnsRequest, context: Context
    ) -> pb.AppendTurnsResponse:
        messages = messages_from(request.messages)
        total = await self._memory.append(_key(request, context), messages, request.run_id)
        return pb.AppendTurnsResponse(total_turns=total)

    async def ListTurns(
        self, request: pb.ListTurnsRequest, context: Context
    ) -> pb.ListTurnsResponse:
        key = _key(request, context)
        return convert.page_to(await self._memory.turns(key, request.page_size, request.page_token))

    async def ClearHistory(
        self, request: pb.ClearHistoryRequest, context: Context
    ) -> pb.ClearHistoryResponse:
        deleted = await self._memory.clear(_key(request, context))
        return pb.ClearHistoryResponse(deleted_turns=deleted)

    async def BuildContext(
        self, request: pb.BuildContextRequest, context: Context
    ) -> pb.BuildContextResponse:
        strategy = convert.strategy_from(request)
        return convert.context_to(await self._memory.context(_key(request, context), strategy))


def _key(request: convert.AboutASession, context: Context) -> SessionKey:
    return convert.key_from(caller_from(context).tenant, request)
