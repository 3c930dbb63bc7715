"""The part of MemoryService that is about semantic memory, over gRPC."""

from astromesh.memory.v1 import memory_service_pb2_grpc
from astromesh.memory.v1 import semantic_pb2 as pb

from servers.domain.semantic import MemoryQuery, Reader
from servers.domain.services import Memory
from servers.kernel.calls import Context, caller_from
from servers.memory.convert import semantic as convert


class SemanticServicer(memory_service_pb2_grpc.MemoryServiceServicer):
    def __init__(self, memory: Memory) -> None:
        self._memory = memory

    async def Remember(self, request: pb.RememberRequest, context: Context) -> pb.RememberResponse:
        said = convert.remembered_from(request)
        reader = _reader(context, request.agent, request.session)
        kept, outcome = await self._memory.semantic.remember(reader, said, request.collection)
        return pb.RememberResponse(
            memory=convert.memory_to(kept), outcome=convert.outcome_to(outcome)
        )

    async def Recall(self, request: pb.RecallRequest, context: Context) -> pb.RecallResponse:
        reader = _reader(context, request.agent, request.session)
        found = await self._memory.semantic.recall(reader, convert.recall_from(request))
        return pb.RecallResponse(memories=map(convert.memory_to, found))

    async def Forget(self, request: pb.ForgetRequest, context: Context) -> pb.ForgetResponse:
        reader = _reader(context, request.agent)
        which = convert.forgetting_from(request)
        deleted = await self._memory.semantic.forget(reader, which, request.collection)
        return pb.ForgetResponse(deleted_memories=deleted)

    async def ListMemories(
        self, request: pb.ListMemoriesRequest, context: Context
    ) -> pb.ListMemoriesResponse:
        reader = _reader(context, request.agent, request.session)
        where = convert.where_from(request.filter)
        query = MemoryQuery(where=where, collection=request.collection)
        page = request.page_size, request.page_token
        return convert.page_to(await self._memory.semantic.memories(reader, query, *page))

    async def CheckCollection(
        self, request: pb.CheckCollectionRequest, context: Context
    ) -> pb.CheckCollectionResponse:
        await self._memory.semantic.check(request.collection)
        return pb.CheckCollectionResponse()


def _reader(context: Context, agent: str, session: str = "") -> Reader:
    caller = caller_from(context)
    return Reader(caller.tenant, agent, caller.principal, session)
