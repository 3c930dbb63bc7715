"""MemoryService over gRPC: decode, delegate, encode."""

from astromesh.memory.v1 import memory_service_pb2 as pb
from astromesh.memory.v1 import memory_service_pb2_grpc

from servers.domain.memory import SessionKey, Strategy
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
        details = convert.details_from(request, caller_from(context).principal)
        key = _key(request, context)
        total = await self._memory.append(key, messages, request.run_id, details)
        return pb.AppendTurnsResponse(total_turns=total)

    async def ListTurns(
        self, request: pb.ListTurnsRequest, context: Context
    ) -> pb.ListTurnsResponse:
        key, page = _key(request, context), (request.page_size, request.page_token)
        return convert.page_to(await self._memory.turns(key, *page, request.backend))

    async def ClearHistory(
        self, request: pb.ClearHistoryRequest, context: Context
    ) -> pb.ClearHistoryResponse:
        deleted = await self._memory.clear(_key(request, context), request.backend)
        return pb.ClearHistoryResponse(deleted_turns=deleted)

    async def BuildContext(
        self, request: pb.BuildContextRequest, context: Context
    ) -> pb.BuildContextResponse:
        key, strategy = _key(request, context), convert.strategy_from(request)
        return convert.context_to(await self._memory.context(key, strategy, request.backend))

    async def CheckBackend(
        self, request: pb.CheckBackendRequest, context: Context
    ) -> pb.CheckBackendResponse:
        await self._memory.check(request.backend)
        return pb.CheckBackendResponse()

    async def SetTokenCounts(
        self, request: pb.SetTokenCountsRequest, context: Context
    ) -> pb.SetTokenCountsResponse:
        key, counts = _key(request, context), convert.counts_from(request)
        await self._memory.count(key, counts, request.counted_by, request.backend)
        return pb.SetTokenCountsResponse()

    async def GetBacklog(
        self, request: pb.GetBacklogRequest, context: Context
    ) -> pb.GetBacklogResponse:
        strategy = Strategy("summary", summary_threshold=request.summary_threshold)
        key = _key(request, context)
        return convert.backlog_to(await self._memory.backlog(key, strategy, request.backend))

    async def UpdateSummary(
        self, request: pb.UpdateSummaryRequest, context: Context
    ) -> pb.UpdateSummaryResponse:
        key, summary = _key(request, context), convert.summary_from(request)
        updated = await self._memory.summarise(key, summary, request.backend)
        return pb.UpdateSummaryResponse(updated=updated)

    async def ListSessions(
        self, request: pb.ListSessionsRequest, context: Context
    ) -> pb.ListSessionsResponse:
        tenant, page = caller_from(context).tenant, (request.page_size, request.page_token)
        return convert.sessions_to(await self._memory.sessions(tenant, request.agent, *page))

    async def ExportPrincipal(
        self, request: pb.ExportPrincipalRequest, context: Context
    ) -> pb.ExportPrincipalResponse:
        tenant, page = caller_from(context).tenant, (request.page_size, request.page_token)
        return convert.records_to(await self._memory.export(tenant, request.principal, *page))

    async def ErasePrincipal(
        self, request: pb.ErasePrincipalRequest, context: Context
    ) -> pb.ErasePrincipalResponse:
        deleted = await self._memory.erase(caller_from(context).tenant, request.principal)
        return pb.ErasePrincipalResponse(deleted_turns=deleted)


def _key(request: convert.AboutASession, context: Context) -> SessionKey:
    return convert.key_from(caller_from(context).tenant, request)
